"""The page: tables and figures in one HTML file that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

_STYLE: Final = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; color: #1f2937; background: #fff;
       max-width: 1080px; margin: 2.2rem auto 4rem; padding: 0 1.2rem; }
h1 { font-size: 1.55rem; margin: 0 0 .2rem; }
h2 { font-size: 1.12rem; margin: 2.2rem 0 .4rem; border-bottom: 1px solid #e5e7eb; padding-bottom: .25rem; }
p { margin: .35rem 0 .7rem; max-width: 52rem; }
p.note { color: #6b7280; font-size: .88rem; }
p.notice { background: #fef3c7; border-left: 4px solid #d97706; padding: .5rem .8rem; }
table { border-collapse: collapse; margin: .6rem 0 1rem; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .28rem .85rem .28rem 0; text-align: right; border-bottom: 1px solid #eef0f3; }
th { color: #6b7280; font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
img { width: 100%; height: auto; display: block; margin: .4rem 0; }
code { background: #f3f4f6; padding: .08rem .3rem; border-radius: 3px; font-size: .88em; }
"""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table: a header and rows of text."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, what it shows, and how to read it."""

    title: str
    text: str = ""
    tables: Sequence[Grid] = ()
    images: Sequence[tuple[str, str]] = ()  # (data URI, what is to be seen)
    note: str = ""


@dataclass(slots=True)
class Page:
    """A report to be rendered."""

    title: str
    subtitle: str
    notices: list[str] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)

    def render(self) -> str:
        """The whole page as HTML."""
        notices = "".join(f'<p class="notice">{html.escape(notice)}</p>' for notice in self.notices)
        body = "".join(_section(section) for section in self.sections)
        title, subtitle = html.escape(self.title), html.escape(self.subtitle)
        return (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
            f"<body><h1>{title}</h1><p class='note'>{subtitle}</p>{notices}{body}</body></html>\n"
        )


def _section(section: Section) -> str:
    parts = [f"<h2>{html.escape(section.title)}</h2>"]
    if section.text:
        parts.append(f"<p>{html.escape(section.text)}</p>")
    parts.extend(_table(grid) for grid in section.tables)
    parts.extend(f'<img src="{uri}" alt="{html.escape(alt)}">' for uri, alt in section.images)
    if section.note:
        parts.append(f'<p class="note">{html.escape(section.note)}</p>')
    return "".join(parts)


def _table(grid: Grid) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in grid.header)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in grid.rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
