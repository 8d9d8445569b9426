"""The end of the chain: signals and fills into the decision log, and that log into decisions and orders.

A decision is a function of ``decisions.inputs`` alone. So whatever may change one (signals, fills, a person's kill
switch, timer ticks) is appended there and acknowledged first, and then *read back* in the order that the log gave it.
A decision is appended and acknowledged before its orders go to the gateway, and once acknowledged it is never made
again. After a crash the state is restored, the inputs since are applied, and only what had not gone out is sent.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa
import structlog
from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from features.errors import BadInputError, ConfigError
from features.stage import Reject
from hedger.decide import Decider
from hedger.decision import Decision, decode_decision, encode_decision
from hedger.inputs import (
    FillInput,
    Input,
    SignalInput,
    TimerInput,
    decode_input,
    encode_input,
    signal_input,
)
from hedger.limits import UnapprovedOrderError
from hedger.paper import PaperGateway
from hedger.policy import load_policy
from pipeline.codec import KIND_HEADER
from pipeline.kafka import BrokerError, make_consumer, make_reader, read_to_end, take
from pipeline.log import Outbox, send_dead_letter
from pipeline.metrics import WorkerMetrics
from pipeline.model_folders import POLICY_FOLDER
from pipeline.portfolios import read_limits, read_portfolio
from pipeline.processor import Offsets
from pipeline.settings import Settings
from pipeline.topics import DECISION_INPUTS, DECISIONS, FILLS, ORDERS
from pipeline.user_features import catalogue_of

NAME: Final = "decisions"
TICK_AFTER_S: Final = 10.0
"""Without a bar for so long, timer ticks are appended, so that the ladder and the kill switch act all the same."""
NANO: Final = 1_000_000_000


class Decisions:
    """Decides for one portfolio; a :class:`pipeline.chain_spec.Ending`."""

    def __init__(self, settings: Settings, metrics: WorkerMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._patience_s = settings.broker_patience_ms / 1_000
        self._log = structlog.get_logger().bind(stage=NAME)
        self._portfolio = read_portfolio(settings.portfolio)
        policy = load_policy(settings.models / POLICY_FOLDER, catalogue_of(settings).hash)
        self._decider = Decider(self._portfolio, read_limits(settings.limits), policy)
        self._gateway = PaperGateway()
        self._outbox = Outbox(settings, linger_ms=0)
        self._reader = make_consumer(settings, "decision-inputs", {"auto.offset.reset": "error"})
        self._inputs_at = 0
        self._decided_at = 0
        self._appended_bar: dict[str, int] = {}
        self._acknowledged: set[str] = set()
        self._waiting: dict[int, dict[str, SignalInput]] = {}
        self._last_bar_at = time.monotonic()
        self._last_tick_at = 0.0
        self._changed = False

    # -- state ----------------------------------------------------------------------------------------------------

    def restore(self, state: Mapping[str, bytes], offsets: Offsets) -> None:
        """Continue from there, and apply what was appended since; the gateway thus knows what is outstanding.

        Raises:
            ConfigError: the state is of another portfolio.
        """
        if state:
            saved = state[f"{NAME}/portfolio"].decode()
            if saved != self._portfolio.name:
                raise ConfigError(
                    f"The checkpoint is of portfolio {saved!r}.",
                    "Run another portfolio under another `application` name.",
                )
            self._decider.restore(state[f"{NAME}/decider"])
            self._gateway.restore(state[f"{NAME}/gateway"])
            self._appended_bar = msgspec.json.decode(state[f"{NAME}/appended"], type=dict[str, int])
            for document in msgspec.msgpack.decode(state[f"{NAME}/waiting"], type=list[bytes]):
                signal = decode_input(document)
                assert isinstance(signal, SignalInput)
                self._waiting.setdefault(signal.bar_ts, {})[signal.underlying] = signal
        self._inputs_at = offsets.get((DECISION_INPUTS, 0), 0)
        self._decided_at = offsets.get((DECISIONS, 0), 0)
        self._catch_up()
        self._reader.assign([TopicPartition(DECISION_INPUTS, 0, self._inputs_at or OFFSET_BEGINNING)])
        self._log.info("restored", portfolio=self._portfolio.name, inputs=self._inputs_at)

    def _catch_up(self) -> None:
        """What was decided, and what was appended, beyond the state."""
        reader = make_reader(self._settings)
        try:
            decided = TopicPartition(DECISIONS, 0, self._decided_at or OFFSET_BEGINNING)
            for message in read_to_end(reader, [decided], self._patience_s):
                self._decided_at = message.offset() + 1
                decision = _decision(message.value() or b"")
                if decision is not None and decision.portfolio == self._portfolio.name:
                    self._acknowledged.add(decision.decision_id)
            appended = TopicPartition(DECISION_INPUTS, 0, self._inputs_at or OFFSET_BEGINNING)
            for message in read_to_end(reader, [appended], self._patience_s):
                self._apply(message)
        finally:
            reader.close()
        # Those of before are never made again; the log of inputs has gone past them.
        self._acknowledged.clear()

    def snapshot(self) -> Mapping[str, bytes]:
        """The state, with the signals that wait for another underlying's bar: they are in no log of ours yet."""
        waiting = [encode_input(signal) for rows in self._waiting.values() for signal in rows.values()]
        return {
            f"{NAME}/portfolio": self._portfolio.name.encode(),
            f"{NAME}/decider": self._decider.snapshot(),
            f"{NAME}/gateway": self._gateway.snapshot(),
            f"{NAME}/appended": msgspec.json.encode(self._appended_bar),
            f"{NAME}/waiting": msgspec.msgpack.encode(waiting),
        }

    def offsets(self) -> Offsets:
        """How far it has read its inputs, and its decisions are known to reach."""
        decided = max(self._decided_at, self._outbox.reached(DECISIONS, 0))
        return {(DECISION_INPUTS, 0): self._inputs_at, (DECISIONS, 0): decided}

    def mark(self) -> int:
        """A name for all that it sent up to here."""
        return self._outbox.mark()

    def acknowledged(self, mark: int) -> bool:
        """Whether all that it sent up to a :meth:`mark` is acknowledged."""
        return self._outbox.acknowledged(mark)

    def flush(self, patience_s: float) -> None:
        """Wait so long until what it sent is acknowledged."""
        self._outbox.flush(patience_s)

    def close(self) -> None:
        """Leave the log of inputs."""
        self._reader.close()

    def take(self, rows: pa.RecordBatch) -> None:
        """Append and decide every bar that all underlyings of the portfolio have reached."""
        for row in rows.to_pylist():
            underlying, bar_ts = row["underlying"], row["bar_ts"]
            wanted = underlying in self._portfolio.hedge_instruments and bar_ts >= self._settings.active_from_bar_ts
            if wanted and bar_ts > self._appended_bar.get(underlying, -1):
                self._waiting.setdefault(bar_ts, {})[underlying] = signal_input(row)
        while (bar := self._ready_bar()) is not None:
            self._append(bar)

    def tick(self) -> bool:
        """Read what others appended; a timer tick a second once the signals have gone silent."""
        self._outbox.poll()
        now = time.monotonic()
        silent_s = now - self._last_bar_at
        wanted: set[str] = set()
        if self._appended_bar and silent_s >= TICK_AFTER_S and now - self._last_tick_at >= 1.0:
            self._last_tick_at = now
            stream_ts = max(self._appended_bar.values()) + round(silent_s * NANO)
            item = TimerInput(input_id=f"timer:{stream_ts}", ts=stream_ts)
            self._append_input(item)
            self._outbox.flush(self._patience_s)
            wanted.add(item.input_id)
        self._read_back(wanted)
        changed, self._changed = self._changed, False
        return changed

    # -- signals into the decision log ----------------------------------------------------------------------------

    def _ready_bar(self) -> Sequence[SignalInput] | None:
        """The earliest bar that all underlyings of the portfolio have reached; earlier, torn ones are let go.

        A crash may have come between the first underlying's row and the last: those in the log are not appended again,
        and the bar is complete with the others.
        """
        names = self._portfolio.underlyings
        complete = [
            bar
            for bar, rows in self._waiting.items()
            if all(name in rows or self._appended_bar.get(name, -1) >= bar for name in names)
        ]
        if not complete:
            return None
        first = min(complete)
        for bar in [bar for bar in self._waiting if bar < first]:
            self._log.warning("torn bar let go", bar_ts=bar, have=sorted(self._waiting.pop(bar)))
        rows = self._waiting.pop(first)
        return [rows[name] for name in names if name in rows and first > self._appended_bar.get(name, -1)]

    def _append(self, signals: Sequence[SignalInput]) -> None:
        """What the gateway did up to this bar, then the bar; then read back what the log made of it."""
        if not signals:
            return
        reports = [report for signal in signals for report in self._gateway.on_market(signal)]
        inputs: list[Input] = [*reports, *signals]
        for item in inputs:
            self._append_input(item)
        self._outbox.flush(self._patience_s)
        self._last_bar_at = time.monotonic()
        self._read_back({item.input_id for item in inputs})
        self._metrics.event_to_decision(time.time() - max(signal.ts_known for signal in signals) / NANO)

    def _append_input(self, item: Input) -> None:
        kind = {KIND_HEADER: "input", "portfolio": self._portfolio.name}
        self._outbox.send(DECISION_INPUTS, 0, self._portfolio.name, encode_input(item), kind)

    # -- the decision log into decisions --------------------------------------------------------------------------

    def _read_back(self, wanted: set[str]) -> None:
        """Apply what the log holds, at least until all of ``wanted`` has come."""
        deadline = time.monotonic() + self._patience_s
        while True:
            messages = take(self._reader, 100, timeout_s=0.01 if wanted else 0.0)
            for message in messages:
                applied = self._apply(message)
                if applied is not None:
                    wanted.discard(applied)
            if not wanted and not messages:
                return
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"{len(wanted)} appended input(s) do not come back from {DECISION_INPUTS}.",
                    "`hedgeflow doctor` checks broker and topics.",
                )

    def _apply(self, message: Any) -> str | None:
        """Apply one input; publish the decision that it leads to. Returns the input's id."""
        if message.offset() < self._inputs_at:
            return None
        self._inputs_at = message.offset() + 1
        self._changed = True
        if (message.key() or b"").decode(errors="replace") != self._portfolio.name:
            return None  # the log is shared: it is an input of another portfolio's decider
        try:
            item = decode_input(message.value() or b"")
        except BadInputError as error:
            where = {"stage": NAME, "topic": DECISION_INPUTS, "partition": "0", "offset": str(message.offset())}
            self._metrics.dead_letter("bad_input")
            send_dead_letter(self._outbox, Reject("bad_input", error.problem), where, message.value() or b"")
            return None
        if isinstance(item, SignalInput):
            self._appended_bar[item.underlying] = max(item.bar_ts, self._appended_bar.get(item.underlying, -1))
            # In recovery this brings the gateway to where it was; live it has seen the row, and does nothing.
            self._gateway.on_market(item)
        elif isinstance(item, FillInput):
            self._publish(FILLS, "fill", encode_input(item))
        decision = self._decider.apply(item)
        if decision is not None:
            self._decided(decision)
        return item.input_id

    def _decided(self, decision: Decision) -> None:
        """Acknowledged first, sent second. The gateway says what it never got: after a crash, only that is sent."""
        if decision.decision_id not in self._acknowledged:
            self._publish(DECISIONS, "decision", encode_decision(decision))
            self._outbox.flush(self._patience_s)
        unknown = self._gateway.reconcile(order.order_id for order in decision.orders).unknown
        due = [order for order in decision.orders if order.order_id in unknown]
        for order in due:
            self._publish(ORDERS, "order", msgspec.json.encode(order))
        self._gateway.submit(due)
        for cancelled in self._gateway.cancel(decision.cancels, decision.bar_ts, "the decision cancels it"):
            self._append_input(cancelled)

    def _publish(self, topic: str, kind: str, value: bytes) -> None:
        self._outbox.send(topic, 0, self._portfolio.name, value, {KIND_HEADER: kind, "portfolio": self._portfolio.name})


def _decision(document: bytes) -> Decision | None:
    """A logged decision; None for what is none: it acknowledges nothing."""
    try:
        return decode_decision(document)
    except (BadInputError, UnapprovedOrderError):
        return None
