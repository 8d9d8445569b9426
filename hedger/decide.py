"""The decider: a function of the ordered log of inputs alone (DESIGN 4). No clock, no I/O.

A decision is made for a bar when the signals of all underlyings of the portfolio have come for it, at once when
somebody kills, and at a timer tick that shows that the data are stale or that orders outlived a kill.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from features.errors import BadInputError
from features.protocols import BandModel
from hedger.admission import ROUTINE, reason_to_drop
from hedger.decider_state import DeciderState, decode_state, encode_state
from hedger.decision import Decision
from hedger.inputs import (
    ActivateInput,
    CancelInput,
    FillInput,
    FlattenInput,
    Input,
    KillInput,
    ModelInput,
    PortfolioInput,
    ReleaseInput,
    SignalInput,
    TimerInput,
    encode_input,
)
from hedger.ladder import LadderConfig
from hedger.ledger import Ledger
from hedger.legs import order_legs
from hedger.limits import Limits
from hedger.orders import decision_id
from hedger.portfolio import Portfolio
from hedger.stances import Policy, stances

MAX_PENDING_BARS: Final = 600
"""Incomplete bars that are kept, while one underlying runs ahead of another."""
REMEMBERED_INPUTS: Final = 1024
"""Ids that are kept to recognize a repeat; repeats come soon, after a restart."""


class Decider:
    """Hedges one portfolio, input by input.

    Args:
        portfolio: at the start; ``PortfolioInput`` changes it.
        limits: every order passes them.
        band_model: the deep policy; without one the second rung decides.
        config: of the ladder.
    """

    def __init__(
        self, portfolio: Portfolio, limits: Limits, band_model: BandModel | None, config: LadderConfig | None = None
    ) -> None:
        self._limits = limits
        self._config = config or LadderConfig()
        self._models: dict[str, BandModel] = {}
        self._first_version: str | None = None
        if band_model is not None:
            self.add_model(band_model)
            self._first_version = band_model.version
        self._settings = {"limits": limits.digest, "ladder": self._config.digest}
        self._stale_ns = self._config.stale_after_s * 1e9
        self._state = DeciderState(
            portfolio=portfolio, ledgers={underlying: Ledger() for underlying in portfolio.underlyings}
        )

    @property
    def portfolio(self) -> Portfolio:
        """In force now."""
        return self._state.portfolio

    @property
    def counts(self) -> Mapping[str, int]:
        """How many inputs were applied, decided on, and dropped, by reason."""
        return dict(self._state.counts)

    @property
    def outstanding(self) -> tuple[str, ...]:
        """Ids of the orders that have neither traded nor been cancelled: what the gateway is reconciled with."""
        return tuple(self._state.outstanding)

    def add_model(self, model: BandModel) -> None:
        """Have a policy at hand, so that a ``ModelInput`` with its version can put it in force."""
        self._models[model.version] = model

    def snapshot(self) -> bytes:
        """The whole state, bit for bit."""
        return encode_state(self._state)

    def restore(self, data: bytes) -> None:
        """Continue where :meth:`snapshot` was taken, by a decider with the same limits, models and settings.

        Raises:
            BadInputError: the bytes are no snapshot, or that of another portfolio.
        """
        state = decode_state(data)
        if state.portfolio.name != self.portfolio.name:
            raise BadInputError(
                f"The snapshot is of portfolio {state.portfolio.name!r}, not {self.portfolio.name!r}.",
                "Each portfolio has a log, and a snapshot, of its own.",
            )
        self._state = state

    def apply(self, item: Input) -> Decision | None:
        """Take the next input of the log.

        Returns:
            The decision that it leads to. It must be appended and acknowledged before its orders are sent.
        """
        state = self._state
        dropped = reason_to_drop(item, state)
        if dropped is not None:
            state.count(dropped)
            if dropped not in ROUTINE:
                state.notice(f"{item.input_id} was dropped: {dropped}")
            return None
        state.count("applied")
        state.digest = hashlib.sha256(state.digest.encode() + encode_input(item)).hexdigest()[:32]
        if isinstance(item, SignalInput):
            return self._on_signal(item)
        if isinstance(item, TimerInput):
            return self._on_timer(item)
        state.recent[item.input_id] = None
        if len(state.recent) > REMEMBERED_INPUTS:
            del state.recent[next(iter(state.recent))]
        return self._on_event(item)

    def _on_signal(self, signal: SignalInput) -> Decision | None:
        state, bar_ts = self._state, signal.bar_ts
        bar = state.pending.setdefault(bar_ts, {})
        bar[signal.underlying] = signal
        if any(underlying not in bar for underlying in state.portfolio.underlyings):
            while len(state.pending) > MAX_PENDING_BARS:
                del state.pending[min(state.pending)]
                state.count("incomplete_bars")
            return None
        state.count("incomplete_bars", sum(ts < bar_ts for ts in state.pending))
        state.pending = {ts: signals for ts, signals in state.pending.items() if ts > bar_ts}
        state.last_bar_ts = state.decided_ts = bar_ts
        for underlying in state.portfolio.underlyings:
            row, options = bar[underlying], state.portfolio.options_on(underlying)
            state.ledgers[underlying].mark(row.mid, row.atm_iv_30d, bar_ts, options)
        if state.active_from_bar_ts is not None and bar_ts < state.active_from_bar_ts:
            return None
        state.stale_decided = state.timer_ts is not None and state.timer_ts - bar_ts > self._stale_ns
        return self._decide(bar_ts, bar, signal.input_id, self._veto(bar_ts))

    def _on_timer(self, timer: TimerInput) -> Decision | None:
        state = self._state
        state.timer_ts = timer.ts
        if state.last_bar_ts is None or state.decided_ts is None:
            return None
        stale = timer.ts - state.last_bar_ts > self._stale_ns
        if (stale and not state.stale_decided) or (state.kill is not None and state.outstanding):
            state.stale_decided = stale
            return self._decide_without_bar(timer.input_id)
        return None

    def _on_event(self, item: Input) -> Decision | None:
        state = self._state
        match item:
            case FillInput():
                state.book(item)
            case CancelInput():
                if state.outstanding.pop(item.order_id, None) is not None:
                    state.notice(f"order {item.order_id} was cancelled: {item.reason}")
            case KillInput():
                state.kill = f"killed by {item.by}: {item.reason}"
                return self._decide_without_bar(item.input_id)
            case FlattenInput():
                state.flatten = f"flatten ordered by {item.by}: {item.reason}"
            case ReleaseInput():
                state.notice(f"{item.releases} released by {item.by}: {item.reason}")
                if item.releases == "kill":
                    state.kill = None
                else:
                    state.flatten = None
            case PortfolioInput():
                state.exchange(item.portfolio)
            case ModelInput():
                state.models = sorted([*state.models, (item.active_from_bar_ts, item.version)], key=lambda m: m[0])
            case ActivateInput():
                state.active_from_bar_ts = item.active_from_bar_ts
        return None

    def _veto(self, bar_ts: int) -> str | None:
        """Why no leg trades at this bar, whatever its market."""
        state = self._state
        if state.kill is not None:
            return state.kill
        if self._limits.kill_switch:
            return "the kill switch is on in the limits"
        if state.timer_ts is not None and state.timer_ts - bar_ts > self._stale_ns:
            return f"stale: the bar is {(state.timer_ts - bar_ts) / 1e9:g} s old"
        return None

    def _decide_without_bar(self, trigger: str) -> Decision:
        """Hold, 1 ns after the last decision, so that no bar to come is hidden behind it."""
        state = self._state
        since_ts = state.last_bar_ts
        state.decided_ts = (state.decided_ts or 0) + 1
        veto = self._veto(since_ts) if since_ts is not None else state.kill
        return self._decide(state.decided_ts, {}, trigger, veto or "no bar to decide on")

    def _decide(self, bar_ts: int, signals: Mapping[str, SignalInput], trigger: str, veto: str | None) -> Decision:
        state = self._state
        portfolio, policy = state.portfolio, self._policy(bar_ts)
        key = decision_id(portfolio.name, bar_ts)
        chosen = stances(portfolio, signals, policy, self._config, veto=veto, flatten=state.flatten)
        cancels = tuple(state.outstanding) if state.kill is not None else ()
        done = order_legs(state, key, bar_ts, chosen, signals, self._limits)
        notices, state.notices = tuple(state.notices), []
        state.count("decisions")
        return Decision(
            decision_id=key,
            portfolio=portfolio.name,
            bar_ts=bar_ts,
            trigger=trigger,
            inputs_digest=state.digest,
            legs=done.legs,
            orders=done.orders,
            refusals=done.refusals,
            cancels=cancels,
            notices=notices,
            versions={"policy": policy.version or "none", **self._settings},
            pnl_usd=done.pnl_usd,
            currency=portfolio.currency,
            settlement_price_source=portfolio.settlement_price_source,
        )

    def _policy(self, bar_ts: int) -> Policy:
        """That which the log put in force for this bar; before it names any, the one of the start."""
        version = self._first_version
        for first_bar_ts, announced in self._state.models:
            if first_bar_ts <= bar_ts:
                version = announced
        return Policy(version, None if version is None else self._models.get(version))
