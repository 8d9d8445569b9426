"""How every figure looks."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from datetime import UTC
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

INK: Final = "#1f2937"
MUTED: Final = "#6b7280"
GRID: Final = "#e5e7eb"
REGIME_COLORS: Final = ("#dcefe2", "#fdebc8", "#f8d0cd")
REGIME_STRONG: Final = ("#4c9f70", "#e0a030", "#c8463c")
SERIES: Final = ("#1d4ed8", "#b45309", "#0f766e", "#7c3aed", "#be185d", "#4d7c0f")

mpl.rcParams.update(
    {
        "font.size": 9.5,
        "axes.edgecolor": MUTED,
        "axes.labelcolor": INK,
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": GRID,
        "grid.linewidth": 0.7,
        "text.color": INK,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
        "lines.linewidth": 1.1,
    }
)


def new_figure(width: float, height: float) -> Figure:
    """A figure that belongs to no window."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def times(nanoseconds: Any) -> Any:
    """UTC times for an axis."""
    return np.asarray(nanoseconds, dtype=np.int64).astype("datetime64[ns]")


def time_axis(axes: Axes) -> None:
    """Short clock labels, in UTC."""
    locator = AutoDateLocator(minticks=4, maxticks=9)  # type: ignore[no-untyped-call] # matplotlib's own gap
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))  # type: ignore[no-untyped-call]


def legend_above(axes: Axes, columns: int, handles: Sequence[Any] | None = None) -> None:
    """A legend beside the title, where it hides nothing."""
    shown = axes.get_legend_handles_labels()[0] if handles is None else handles
    axes.legend(handles=shown, ncols=columns, loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.1)


def plain_log(axis: Axis) -> None:
    """Logarithmic, with labels like 0.3 and 20 instead of powers."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def png(figure: Figure, dpi: int = 130) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def data_uri(image: bytes) -> str:
    """A PNG as the source of an image in a page."""
    return "data:image/png;base64," + base64.b64encode(image).decode()
