"""The catalogue at the command line: readable in a narrow terminal, and complete."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from features.catalog import STANDARD
from features.declared import own_activity
from pipeline.commands.features import app

ALL = (*STANDARD.all, *own_activity.FEATURES)


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_every_name_is_whole_at_any_width(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = CliRunner().invoke(app, ["list"]).output
    first = [line.split()[0] for line in shown.splitlines() if line[2:3].strip()]
    assert [name for name in first if name in {each.name for each in ALL}] == [each.name for each in ALL]
    assert "…" not in shown
    assert all(len(line) <= columns for line in shown.splitlines())
    for each in ALL if columns >= 120 else ():
        line = next(line for line in shown.splitlines() if line.split()[:1] == [each.name])
        assert each.unit.split()[0] in line


def test_tables_are_told_apart() -> None:
    shown = CliRunner().invoke(app, ["list"]).output
    places = [shown.index(name) for name in ("table features", "table universe", "table own_activity")]
    assert places == sorted(places)
    assert shown.index("correlation_1m") > places[1]
    assert shown.index("inventory") > places[2]


@pytest.mark.parametrize("name", ["mid", "beta_1m", "inventory"])
def test_show_knows_every_table(name: str) -> None:
    shown = CliRunner().invoke(app, ["show", name])
    assert shown.exit_code == 0
    assert shown.output.startswith(f"{name}\n  unit ")
