"""The ``decisions`` worker: signals and fills into the decision log, and that log into decisions and orders.

A decision is a function of ``decisions.inputs`` alone. So whatever may change one (signals, fills, a person's kill
switch, timer ticks) is appended there and acknowledged first, and then *read back* in the order that the log gave it.
A decision is appended and acknowledged before its orders go to the gateway, and once acknowledged it is never made
again. After a crash the worker restores its checkpoint, applies the inputs since, and sends only what it had not.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

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
from hedger.paper import PaperGateway
from hedger.policy import load_policy
from pipeline.checkpoint import Checkpoint, CheckpointStore
from pipeline.codec import KIND_HEADER, UndecodableError, decode_rows
from pipeline.kafka import (
    BrokerError,
    commit,
    header,
    make_consumer,
    make_reader,
    read_to_end,
    require_broker,
    static_member,
    take,
)
from pipeline.log import Outbox, send_dead_letter
from pipeline.model_folders import POLICY_FOLDER
from pipeline.portfolios import read_limits, read_portfolio
from pipeline.settings import Settings
from pipeline.topics import DECISION_INPUTS, DECISIONS, FILLS, ORDERS, SIGNALS
from pipeline.user_features import catalogue_of

GROUP: Final = "decisions"
TASK: Final = "decisions/0"
READ_BACK_TIMEOUT_S: Final = 30.0
TICK_AFTER_S: Final = 10.0
"""Without a bar for so long, timer ticks are appended, so that the ladder and the kill switch act all the same."""
NANO: Final = 1_000_000_000


class DecisionWorker:
    """Decides for one portfolio, until :meth:`stop`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._log = structlog.get_logger().bind(stage=GROUP)
        self._portfolio = read_portfolio(settings.portfolio)
        policy = load_policy(settings.models / POLICY_FOLDER, catalogue_of(settings).hash)
        self._decider = Decider(self._portfolio, read_limits(settings.limits), policy)
        self._gateway = PaperGateway()
        self._outbox = Outbox(settings, linger_ms=0)
        self._store = CheckpointStore(settings, Outbox(settings))
        self._generation = 1
        self._inputs_at = 0
        self._signals_at: dict[tuple[str, int], int] = {}
        self._appended_bar: dict[str, int] = {}
        self._acknowledged: set[str] = set()
        self._waiting: dict[int, dict[str, SignalInput]] = {}
        self._last_bar_at = time.monotonic()
        self._last_tick_at = 0.0
        self._last_checkpoint = time.monotonic()
        self._dirty = False
        self._stopping = False

    def stop(self) -> None:
        """Finish the bar at hand, checkpoint, leave."""
        self._stopping = True

    def run(self) -> None:
        """Decide until told to stop.

        Raises:
            BrokerError: the broker is gone or refuses.
        """
        require_broker(self._settings)
        self._recover()
        reader = make_consumer(self._settings, "decision-inputs")
        reader.assign([TopicPartition(DECISION_INPUTS, 0, self._inputs_at or OFFSET_BEGINNING)])
        consumer = make_consumer(self._settings, GROUP, static_member(self._settings, GROUP, alone=True))
        try:
            consumer.subscribe([SIGNALS], on_assign=self._assigned)
            self._log.info("started", portfolio=self._portfolio.name, inputs=self._inputs_at)
            while not self._stopping:
                self._step(consumer, reader)
            self._checkpoint(consumer)
        finally:
            consumer.close()
            reader.close()
            self._log.info("stopped")

    def _step(self, consumer: Consumer, reader: Consumer) -> None:
        messages = take(consumer, self._settings.batch_messages)
        for message in messages:
            self._take(message)
        while (bar := self._ready_bar()) is not None:
            self._append(bar, reader)
        if not messages:
            self._tick(reader)
        self._read_back(reader, set())
        interval_s = self._settings.checkpoint_interval_ms / 1_000
        if not messages or time.monotonic() - self._last_checkpoint >= interval_s:
            self._checkpoint(consumer)

    # -- signals into the decision log ----------------------------------------------------------------------------

    def _take(self, message: Any) -> None:
        key = (message.topic(), message.partition())
        if message.offset() < self._signals_at.get(key, 0):
            return
        self._signals_at[key] = message.offset() + 1
        self._dirty = True
        try:
            rows = decode_rows(header(message, KIND_HEADER) or "", message.value() or b"").to_pylist()
        except UndecodableError as error:
            where = {"stage": GROUP, "topic": key[0], "partition": str(key[1]), "offset": str(message.offset())}
            self._log.warning("dead letter", reason=error.reason, **where)
            send_dead_letter(self._outbox, Reject(error.reason, error.detail), where, message.value() or b"")
            return
        for row in rows:
            underlying, bar_ts = row["underlying"], row["bar_ts"]
            wanted = underlying in self._portfolio.hedge_instruments and bar_ts >= self._settings.active_from_bar_ts
            if wanted and bar_ts > self._appended_bar.get(underlying, -1):
                self._waiting.setdefault(bar_ts, {})[underlying] = signal_input(row)

    def _ready_bar(self) -> Sequence[SignalInput] | None:
        """The earliest bar that all underlyings of the portfolio have reached; earlier, torn ones are let go."""
        complete = [bar for bar, rows in self._waiting.items() if len(rows) == len(self._portfolio.underlyings)]
        if not complete:
            return None
        first = min(complete)
        for bar in [bar for bar in self._waiting if bar < first]:
            self._log.warning("torn bar let go", bar_ts=bar, have=sorted(self._waiting.pop(bar)))
        rows = self._waiting.pop(first)
        return [rows[underlying] for underlying in self._portfolio.underlyings]

    def _append(self, signals: Sequence[SignalInput], reader: Consumer) -> None:
        """What the gateway did up to this bar, then the bar; then read back what the log made of it."""
        reports = [report for signal in signals for report in self._gateway.on_market(signal)]
        inputs: list[Input] = [*reports, *signals]
        for item in inputs:
            self._append_input(item)
        self._outbox.flush()
        self._last_bar_at = time.monotonic()
        self._read_back(reader, {item.input_id for item in inputs})

    def _append_input(self, item: Input) -> None:
        kind = {KIND_HEADER: "input", "portfolio": self._portfolio.name}
        self._outbox.send(DECISION_INPUTS, 0, self._portfolio.name, encode_input(item), kind)

    def _tick(self, reader: Consumer) -> None:
        """Append a timer tick a second once the signals have gone silent."""
        now = time.monotonic()
        silent_s = now - self._last_bar_at
        if not self._appended_bar or silent_s < TICK_AFTER_S or now - self._last_tick_at < 1.0:
            return
        self._last_tick_at = now
        stream_ts = max(self._appended_bar.values()) + round(silent_s * NANO)
        item = TimerInput(input_id=f"timer:{stream_ts}", ts=stream_ts)
        self._append_input(item)
        self._outbox.flush()
        self._read_back(reader, {item.input_id})

    # -- the decision log into decisions --------------------------------------------------------------------------

    def _read_back(self, reader: Consumer, wanted: set[str]) -> None:
        """Apply what the log holds, at least until all of ``wanted`` has come."""
        deadline = time.monotonic() + READ_BACK_TIMEOUT_S
        while True:
            messages = take(reader, 100, timeout_s=0.01 if wanted else 0.0)
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
        self._dirty = True
        try:
            item = decode_input(message.value() or b"")
        except BadInputError as error:
            where = {"stage": GROUP, "topic": DECISION_INPUTS, "partition": "0", "offset": str(message.offset())}
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
            self._outbox.flush()
        unknown = self._gateway.reconcile(order.order_id for order in decision.orders).unknown
        due = [order for order in decision.orders if order.order_id in unknown]
        for order in due:
            self._publish(ORDERS, "order", msgspec.json.encode(order))
        self._gateway.submit(due)
        for cancelled in self._gateway.cancel(decision.cancels, decision.bar_ts, "the decision cancels it"):
            self._append_input(cancelled)

    def _publish(self, topic: str, kind: str, value: bytes) -> None:
        self._outbox.send(topic, 0, self._portfolio.name, value, {KIND_HEADER: kind, "portfolio": self._portfolio.name})

    # -- recovery -------------------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Restore the checkpoint, and apply what was appended since; the gateway thus knows what is outstanding."""
        saved = self._store.load(TASK)
        self._generation = saved.following
        if saved.generation:
            if saved.state["portfolio"] != self._portfolio.name.encode():
                raise ConfigError(
                    f"The checkpoint is of portfolio {saved.state['portfolio'].decode()!r}.",
                    "Run another portfolio under another `application` name.",
                )
            self._decider.restore(saved.state["decider"])
            self._gateway.restore(saved.state["gateway"])
        offsets = dict(saved.offsets)
        self._inputs_at = offsets.pop((DECISION_INPUTS, 0), 0)
        decided_from = offsets.pop((DECISIONS, 0), 0)
        self._signals_at = offsets
        reader = make_reader(self._settings)
        try:
            for message in read_to_end(reader, [TopicPartition(DECISIONS, 0, decided_from)]):
                decision = decode_decision(message.value() or b"")
                if decision.portfolio == self._portfolio.name:
                    self._acknowledged.add(decision.decision_id)
            for message in read_to_end(reader, [TopicPartition(DECISION_INPUTS, 0, self._inputs_at)]):
                self._apply(message)
        finally:
            reader.close()
        self._log.info("restored", generation=saved.generation, inputs=self._inputs_at)

    def _checkpoint(self, consumer: Consumer) -> None:
        self._last_checkpoint = time.monotonic()
        if not self._dirty or self._waiting:
            # Signals that wait for another underlying's bar are in no log of ours yet: they must be read again.
            return
        self._outbox.flush()
        state = {
            "portfolio": self._portfolio.name.encode(),
            "decider": self._decider.snapshot(),
            "gateway": self._gateway.snapshot(),
        }
        offsets = {**self._signals_at, (DECISION_INPUTS, 0): self._inputs_at}
        self._store.save(TASK, Checkpoint(self._generation, offsets, state))
        self._generation += 1
        self._dirty = False
        refused = commit(consumer, self._signals_at)
        if refused:
            self._log.warning("commit refused", error=refused)

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for each in partitions:
            each.offset = self._signals_at.get((each.topic, each.partition), OFFSET_BEGINNING)
        consumer.assign(partitions)
