"""Which inputs change nothing: repeats, bars that were decided, and what the state cannot take."""

from __future__ import annotations

from hedger.decider_state import DeciderState
from hedger.inputs import FillInput, Input, ModelInput, PortfolioInput, SignalInput, TimerInput

ROUTINE = frozenset({"repeated", "old_bar", "old_timer"})
"""Reasons that at-least-once delivery brings about every day: counted, not noticed in a decision."""


def reason_to_drop(item: Input, state: DeciderState) -> str | None:
    """Under which name an input is dropped and counted; ``None`` if it is to be applied."""
    match item:
        case SignalInput():
            return _signal_reason(item, state)
        case TimerInput():
            return "old_timer" if state.timer_ts is not None and item.ts <= state.timer_ts else None
        case _ if item.input_id in state.recent:
            return "repeated"
        case FillInput():
            return None if item.underlying in state.ledgers else "fill_of_unknown_underlying"
        case PortfolioInput():
            return _portfolio_reason(item, state)
        case ModelInput():
            late = state.decided_ts is not None and item.active_from_bar_ts <= state.decided_ts
            return "model_not_beyond_decided_bar" if late else None
    return None


def _signal_reason(signal: SignalInput, state: DeciderState) -> str | None:
    instrument = state.portfolio.hedge_instruments.get(signal.underlying)
    if instrument is None:
        return "unknown_underlying"
    if signal.instrument != instrument:
        return "other_instrument"
    if state.decided_ts is not None and signal.bar_ts <= state.decided_ts:
        return "old_bar"
    return "repeated" if signal.underlying in state.pending.get(signal.bar_ts, {}) else None


def _portfolio_reason(item: PortfolioInput, state: DeciderState) -> str | None:
    """A hedge that is still held, or ordered, must stay hedged in the same instrument."""
    if item.portfolio.name != state.portfolio.name:
        return "other_portfolio"
    open_legs = {name for name, ledger in state.ledgers.items() if ledger.position != 0.0}
    open_legs |= {order.underlying for order in state.outstanding.values()}
    new, old = item.portfolio.hedge_instruments, state.portfolio.hedge_instruments
    return "edit_abandons_a_hedge" if any(new.get(leg) != old.get(leg) for leg in open_legs) else None
