"""The ``own`` stage: the log of decision inputs in, features of our own activity out.

It applies the log as the decider does, by the same rules of what is dropped, but decides nothing: so its rows are a
function of ``decisions.inputs``, the portfolio and the limits alone, live and in backfill.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from features.declared.own_activity import SCHEMA
from features.errors import BadInputError, ConfigError
from features.own_activity import Mark, OwnActivity, declaration_hash
from features.risk_limits import OptionsExposure, RiskLimits
from features.stage import Keyed, Reject, StageOutput
from features.state import pack, unpack
from hedger.admission import reason_to_drop
from hedger.decide import MAX_PENDING_BARS, REMEMBERED_INPUTS
from hedger.decider_state import DeciderState, decode_state, encode_state
from hedger.inputs import CancelInput, FillInput, Input, PortfolioInput, SignalInput, TimerInput, decode_input
from hedger.ledger import Ledger
from hedger.limits import Limits
from hedger.portfolio import OptionPosition, Portfolio
from hedger.valuation import options_greeks
from pipeline.arrival_mids import ArrivalMids
from pipeline.codec import UndecodableError
from pipeline.portfolios import read_limits, read_portfolio
from pipeline.settings import Settings

UNKNOWN: Final = OptionsExposure()


@dataclass(frozen=True, slots=True)
class LoggedInput:
    """A message of ``decisions.inputs``; its key names the portfolio."""

    portfolio: str
    item: Input


def decode_logged_input(_kind: str, key: str, payload: bytes) -> LoggedInput:
    """Decode a message of ``decisions.inputs``.

    Raises:
        UndecodableError: it is no input.
    """
    try:
        return LoggedInput(key, decode_input(payload))
    except BadInputError as error:
        raise UndecodableError("bad_input", error.problem) from error


class OwnActivityStage:
    """One portfolio's own activity, input by input.

    Rows come at the bars that the decider decides: once the signals of all underlyings of the portfolio are there, with
    the fills and cancels that the log holds before the last of them. Inputs of another portfolio, repeats and what the
    decider drops change nothing (``counts`` says how many); a fill with impossible numbers is rejected.

    Args:
        portfolio: at the start; ``PortfolioInput`` changes it.
        limits: whose room is told.
    """

    name = "own"

    def __init__(self, portfolio: Portfolio, limits: Limits) -> None:
        self._name = portfolio.name
        self._limits = risk_limits(limits, portfolio)
        self._desk_limits = limits
        self._state = DeciderState(portfolio=portfolio, ledgers={name: Ledger() for name in portfolio.underlyings})
        self._arrivals = ArrivalMids(portfolio.name)
        self._activity = OwnActivity(portfolio.name, f"{declaration_hash()}+{limits.digest}")

    @classmethod
    def load(cls, settings: Settings) -> OwnActivityStage:
        """With the portfolio and the limits that the settings name.

        Raises:
            ConfigError: one of the files is missing, or out of range.
            BadInputError: one cannot be read.
        """
        return cls(read_portfolio(settings.portfolio), read_limits(settings.limits))

    @property
    def counts(self) -> Mapping[str, int]:
        """How many inputs were applied, and dropped, by reason."""
        return dict(self._state.counts)

    def process(self, batch: LoggedInput) -> StageOutput:
        """Take the next input of the log."""
        state, item = self._state, batch.item
        if batch.portfolio != self._name:
            state.count("other_portfolio")
            return StageOutput()
        if isinstance(item, TimerInput):
            return StageOutput()
        dropped = reason_to_drop(item, state)
        if dropped is not None:
            state.count(dropped)
            return StageOutput()
        state.count("applied")
        if isinstance(item, SignalInput):
            return self._on_signal(item)
        state.recent[item.input_id] = None
        if len(state.recent) > REMEMBERED_INPUTS:
            del state.recent[next(iter(state.recent))]
        return self._on_event(item)

    def _on_event(self, item: Input) -> StageOutput:
        match item:
            case FillInput():
                return self._on_fill(item)
            case CancelInput():
                arrival = self._arrivals.of_order(item.order_id)
                if arrival is not None:
                    self._activity.order(item.order_id, arrival.instrument, arrival.bar_ts)
            case PortfolioInput():
                self._state.exchange(item.portfolio)
                self._limits = risk_limits(self._desk_limits, item.portfolio)
        return StageOutput()

    def _on_fill(self, fill: FillInput) -> StageOutput:
        arrival = self._arrivals.of_decision(fill.decision_id, fill.instrument)
        try:
            new = self._activity.fill(
                fill.input_id,
                fill.instrument,
                fill.quantity,
                fill.price,
                fill.fee_usd,
                None if arrival is None else arrival.mid,
                fill.bar_ts,
            )
        except BadInputError as error:
            return StageOutput(rejects=[Reject("bad_fill", error.problem)])
        if new:
            self._state.ledgers[fill.underlying].fill(fill.quantity, fill.price, fill.fee_usd)
        if arrival is not None:
            self._activity.order(fill.order_id, fill.instrument, arrival.bar_ts)
        return StageOutput()

    def _on_signal(self, signal: SignalInput) -> StageOutput:
        state, bar_ts = self._state, signal.bar_ts
        bar = state.pending.setdefault(bar_ts, {})
        bar[signal.underlying] = signal
        if any(underlying not in bar for underlying in state.portfolio.underlyings):
            while len(state.pending) > MAX_PENDING_BARS:
                del state.pending[min(state.pending)]
                state.count("incomplete_bars")
            return StageOutput()
        state.count("incomplete_bars", sum(ts < bar_ts for ts in state.pending))
        state.pending = {ts: signals for ts, signals in state.pending.items() if ts > bar_ts}
        state.last_bar_ts = state.decided_ts = bar_ts
        return self._rows(bar_ts, [bar[underlying] for underlying in state.portfolio.underlyings])

    def _rows(self, bar_ts: int, signals: list[SignalInput]) -> StageOutput:
        options: dict[str, OptionsExposure] = {}
        for signal in signals:
            mine = self._state.portfolio.options_on(signal.underlying)
            ledger = self._state.ledgers[signal.underlying]
            ledger.mark(signal.mid, signal.atm_iv_30d, bar_ts, mine)
            options[signal.underlying] = options_exposure(ledger, mine, bar_ts)
        marks = [
            Mark(underlying=each.underlying, instrument=each.instrument, price=each.mid, ts_known=each.ts_known)
            for each in signals
        ]
        rows = self._activity.bar(bar_ts, marks, options, self._limits)
        self._arrivals.remember(signals)
        return StageOutput([Keyed(row["underlying"], pa.RecordBatch.from_pylist([row], SCHEMA)) for row in rows])

    def snapshot(self) -> Mapping[str, bytes]:
        """The whole state, under the portfolio's name."""
        state = {
            "account": encode_state(self._state),
            "activity": self._activity.snapshot(),
            "arrivals": self._arrivals.saved(),
        }
        return {self._name: pack(state)}

    def restore(self, state: Mapping[str, bytes]) -> None:
        """Continue where :meth:`snapshot` was taken.

        Raises:
            ConfigError: it is that of another portfolio.
            BadInputError: it cannot be read.
        """
        if self._name not in state:
            raise ConfigError(
                f"The checkpoint is of portfolio {', '.join(state)!r}, not {self._name!r}.",
                "Run another portfolio under another `application` name.",
            )
        saved = unpack(state[self._name])
        self._state = decode_state(saved["account"])
        self._limits = risk_limits(self._desk_limits, self._state.portfolio)
        self._activity.restore(saved["activity"])
        self._arrivals.load(saved["arrivals"])


def risk_limits(limits: Limits, portfolio: Portfolio) -> RiskLimits:
    """The desk's limits; an underlying that ``max_position`` does not name has the bound 0, as for the brake."""
    return RiskLimits(
        max_position={name: limits.max_position.get(name, 0.0) for name in portfolio.underlyings},
        max_gross_notional_usd=limits.max_gross_notional_usd,
        max_net_delta_usd=limits.max_net_delta_usd,
        max_gamma_usd=limits.max_gamma_usd,
        max_vega_usd=limits.max_vega_usd,
        max_loss_usd=limits.max_loss_usd,
        max_orders_per_minute=limits.max_orders_per_minute,
    )


def options_exposure(ledger: Ledger, options: tuple[OptionPosition, ...], bar_ts: int) -> OptionsExposure:
    """Greeks and P&L at the marks of the bar itself; unknown where the ledger only has older ones.

    An expired option has its settlement in the P&L and no greeks.
    """
    mid, iv = ledger.mid, ledger.iv
    if mid is None or iv is None or min(ledger.mid_ts, ledger.iv_ts) < bar_ts or not (mid > 0.0 and iv > 0.0):
        return UNKNOWN
    greeks = options_greeks([option for option in options if option.expiry_ns > bar_ts], mid, iv, bar_ts)
    pnl = ledger.options_pnl_usd(options, bar_ts)
    return OptionsExposure(
        delta=_finite(greeks.delta),
        gamma_usd=_finite(greeks.gamma_usd),
        vega_usd=_finite(greeks.vega_usd),
        pnl_usd=None if pnl is None else _finite(pnl),
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
