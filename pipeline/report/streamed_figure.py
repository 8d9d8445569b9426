"""The surface that streams over the last chain of each underlying: a few smiles, and the term at the money."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from matplotlib.figure import Figure

from features.surface.arbitrage import check_arbitrage
from features.surface.chain_surface import ChainSurface
from features.surface.cleaning import Points
from features.surface.model import Surface
from features.surface.model_features import surface_features
from pipeline.option_chains import OptionChain
from pipeline.report.style import SERIES, new_figure
from pipeline.report.surface_figures import term_structure
from pipeline.report.surface_panels import expiry_name, smile_panel, spread_out
from pipeline.surface_models import arbitrage_counts

_SMILES: Final = 3


class FittedChain(NamedTuple):
    """A chain, the quotes of it that are used, and the surface through them."""

    chain: OptionChain
    points: Points
    surface: Surface


def fitted_chain(chain: OptionChain) -> FittedChain | None:
    """The chain under the surface that the stream fits; None where no quote can be used."""
    stream = ChainSurface()
    columns = (chain.expiry_ns, chain.strike, chain.is_call, chain.bid, chain.ask, chain.forward, chain.quoted_ns)
    stream.update(*columns, chain.now_ns)
    return FittedChain(chain, chain.points(), stream.surface) if len(stream.expiry_E) else None


def described(fitted: FittedChain) -> str:
    """How well the quotes are met, and whether there is arbitrage."""
    chain, points, surface = fitted
    found = surface_features(surface, points)
    violations = {kind: count for kind, count in arbitrage_counts(check_arbitrage(surface)).items() if count}
    told = ", ".join(f"{count} {kind}" for kind, count in violations.items()) or "none"
    return (
        f"{chain.underlying}: {len(points.k_Q)} of {len(chain)} quotes used, "
        f"{found['surface_inside_share']:.0%} met inside bid and ask, root mean square misfit of the mids "
        f"{1e4 * found['surface_residual']:.1f} bp of volatility, static arbitrage found: {told}."
    )


def streamed_figure(fitted: Sequence[FittedChain]) -> Figure:
    """A row of panels an underlying; one at least."""
    figure = new_figure(11.0, 2.9 * len(fitted))
    figure.set_layout_engine("constrained", w_pad=0.04, h_pad=0.06, hspace=0.04, wspace=0.02)
    grid = figure.add_gridspec(len(fitted), _SMILES + 1)
    for row, (chain, points, surface) in enumerate(fitted):
        for column, e in enumerate(spread_out(points, _SMILES)):
            axes = figure.add_subplot(grid[row, column])
            smile_panel(axes, points, e, {"surface": surface}, {"surface": SERIES[0]})
            axes.set_title(f"{chain.underlying}, {expiry_name(int(points.expiry_E[e]), float(points.years_E[e]))}")
            if column == 0:
                axes.set_ylabel("implied vol, %")
            if row == len(fitted) - 1:
                axes.set_xlabel("forward delta")
        term_structure(figure.add_subplot(grid[row, _SMILES]), chain, points, surface)
    return figure
