"""Ways to hedge, run over recorded signals by the very decider and gateway that run live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.errors import ConfigError
from features.protocols import BandModel
from hedger.decide import Decider
from hedger.decision import Decision
from hedger.inputs import FillInput, Input, SignalInput
from hedger.ladder import LadderConfig
from hedger.limits import Limits
from hedger.paper import PaperConfig, PaperGateway
from hedger.performance import summarize
from hedger.portfolio import Portfolio
from hedger.profit import profit_and_loss, signal_inputs

Float = NDArray[np.float64]

NO_HEDGE: Final = "no_hedge"
BLACK_DELTA: Final = "black_delta"
DEEP_POLICY: Final = "deep_policy"
STRATEGIES: Final = (NO_HEDGE, BLACK_DELTA, DEEP_POLICY)


class ZeroBand:
    """A band model without a band: the Black delta at every bar."""

    version = "zero-band"

    def band(self, inputs_ND: Float) -> tuple[Float, Float]:
        """Zeros; NaN where an input is NaN."""
        zero_N = np.where(np.isnan(inputs_ND).any(axis=1), np.nan, 0.0)
        return zero_N, zero_N


@dataclass(frozen=True, slots=True)
class Run:
    """What was decided and what was filled, and the inputs in the order of the log."""

    decisions: tuple[Decision, ...]
    fills: tuple[FillInput, ...]
    inputs: tuple[Input, ...]


@dataclass(frozen=True, slots=True)
class Backtest:
    """Frames of all strategies, with a column ``strategy``.

    Attributes:
        legs, bars: as :class:`hedger.profit.ProfitAndLoss`.
        summary: as :func:`hedger.performance.summarize`.
        runs: by strategy.
    """

    legs: pl.DataFrame
    bars: pl.DataFrame
    summary: pl.DataFrame
    runs: dict[str, Run]


def run(signals: Sequence[SignalInput], decider: Decider, gateway: PaperGateway) -> Run:
    """Feed the signals, in the order of time, to gateway and decider.

    What was decided at a bar is filled by the next row of its instrument, and known before the decision at that bar.
    """
    decisions: list[Decision] = []
    inputs: list[Input] = []
    for signal in signals:
        for item in (*gateway.on_market(signal), signal):
            inputs.append(item)
            decision = decider.apply(item)
            if decision is not None:
                decisions.append(decision)
                gateway.submit(decision.orders)
    fills = tuple(item for item in inputs if isinstance(item, FillInput))
    return Run(tuple(decisions), fills, tuple(inputs))


def backtest(
    signals: pl.DataFrame,
    portfolio: Portfolio,
    limits: Limits,
    *,
    band_model: BandModel | None = None,
    strategies: Sequence[str] | None = None,
    ladder: LadderConfig | None = None,
    paper: PaperConfig | None = None,
) -> Backtest:
    """Hedge ``portfolio`` over ``signals`` in several ways.

    Args:
        signals: rows of ``features.signals.SCHEMA``.
        portfolio: held from the first bar to the last.
        limits: the same for all; ``no_hedge`` is the kill switch.
        band_model: of ``deep_policy``.
        strategies: of :data:`STRATEGIES`; unless given all, ``deep_policy`` if there is a ``band_model``.
        ladder: where an input is missing, every strategy steps down, as live.
        paper: the gateway's fees.

    Raises:
        ConfigError: an unknown strategy, or ``deep_policy`` without a model.
        BadInputError: a row does not fit the schema.
    """
    names = strategies or tuple(name for name in STRATEGIES if name != DEEP_POLICY or band_model is not None)
    rows = signal_inputs(signals)
    runs: dict[str, Run] = {}
    legs, bars, summaries = [], [], []
    for name in names:
        model, mine = _strategy(name, limits, band_model)
        runs[name] = run(rows, Decider(portfolio, mine, model, ladder), PaperGateway(paper))
        result = profit_and_loss(rows, runs[name].fills, portfolio)
        label = pl.lit(name).alias("strategy")
        legs.append(result.legs.select(label, pl.all()))
        bars.append(result.bars.select(label, pl.all()))
        summaries.append(summarize(name, result, portfolio))
    return Backtest(pl.concat(legs), pl.concat(bars), pl.concat(summaries), runs)


def _strategy(name: str, limits: Limits, band_model: BandModel | None) -> tuple[BandModel | None, Limits]:
    if name == NO_HEDGE:
        return None, replace(limits, kill_switch=True)
    if name == BLACK_DELTA:
        return ZeroBand(), limits
    if name == DEEP_POLICY and band_model is not None:
        return band_model, limits
    raise ConfigError(
        f"Strategy {name!r} cannot be run.", f"Strategies are {', '.join(STRATEGIES)}; the last needs a model."
    )
