"""The worker: a stage between a topic and a topic, with checkpoints, so that nothing is lost and nothing counts twice.

Outputs are at least once: after a crash the worker goes on from its last checkpoint and sends again what it had sent
since. Rows carry (key, bar), and every consumer drops what is not beyond the last bar that it has; so the effect is
exactly once (DESIGN 4).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from features.stage import Reject, Stage
from pipeline.checkpoint import Checkpoint, CheckpointStore
from pipeline.codec import KIND_HEADER, MAX_ROWS, UndecodableError, encode
from pipeline.kafka import commit, header, make_consumer, partition_of, require_broker, static_member, take
from pipeline.log import Outbox, send_dead_letter
from pipeline.settings import Settings

IDLE_CHECKPOINT_S: Final = 0.3
"""A worker that has caught up checkpoints after this pause, so that its lag reads zero."""

Decode = Callable[[str, str, bytes], Any]
"""(kind header, key, payload) -> what the stage takes."""


@dataclass(frozen=True, slots=True)
class StageSpec:
    """How a stage is run.

    Args:
        name: also its consumer group and the prefix of its checkpoints.
        source: the topic that it reads.
        sink: the topic that its rows go to; also their ``kind`` header.
        decode: payload to input.
        make: a fresh stage.
        whole: one state over all partitions (``universe``) instead of one a partition.
    """

    name: str
    source: str
    sink: str
    decode: Decode
    make: Callable[[], Stage[Any]]
    whole: bool = False


@dataclass(slots=True)
class _Task:
    """A stage's state over the partitions that it covers."""

    name: str
    stage: Stage[Any]
    offsets: dict[tuple[str, int], int]
    generation: int
    dirty: bool = False


class Worker:
    """Runs one stage in this process until :meth:`stop`."""

    def __init__(self, settings: Settings, spec: StageSpec) -> None:
        self._settings = settings
        self._spec = spec
        self._log = structlog.get_logger().bind(stage=spec.name)
        self._outbox = Outbox(settings, linger_ms=1)
        self._store = CheckpointStore(settings, self._outbox)
        self._tasks: dict[int, _Task] = {}
        self._stopping = False
        self._last_checkpoint = time.monotonic()
        self._last_message = time.monotonic()

    def stop(self) -> None:
        """Finish the messages at hand, checkpoint, leave."""
        self._stopping = True

    def run(self) -> None:
        """Consume until told to stop.

        Raises:
            BrokerError: the broker is gone or refuses.
        """
        require_broker(self._settings)
        member = static_member(self._settings, self._spec.name, alone=self._spec.whole)
        consumer = make_consumer(self._settings, self._spec.name, member)
        try:
            consumer.subscribe(
                [self._spec.source], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
            )
            self._log.info("started", source=self._spec.source, sink=self._spec.sink)
            while not self._stopping:
                self._step(consumer)
            self._checkpoint(consumer)
        finally:
            consumer.close()
            self._log.info("stopped")

    def _step(self, consumer: Consumer) -> None:
        """Take what is there, send what it gives, and checkpoint when it is time."""
        messages = take(consumer, self._settings.batch_messages)
        outputs: dict[str, list[pa.RecordBatch]] = {}
        for message in messages:
            self._process(message, outputs)
        self._send(outputs)
        now = time.monotonic()
        if messages:
            self._last_message = now
        idle = now - self._last_message >= IDLE_CHECKPOINT_S
        if idle or now - self._last_checkpoint >= self._settings.checkpoint_interval_ms / 1_000:
            self._checkpoint(consumer)

    def _process(self, message: Any, outputs: dict[str, list[pa.RecordBatch]]) -> None:
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        task = self._tasks.get(self._task_id(partition))
        if task is None or offset < task.offsets.get((topic, partition), 0):
            return
        task.offsets[topic, partition] = offset + 1
        task.dirty = True
        payload = message.value() or b""
        try:
            key = (message.key() or b"").decode()
            decoded = self._spec.decode(header(message, KIND_HEADER) or "", key, payload)
        except UndecodableError as error:
            self._reject(Reject(error.reason, error.detail), message)
            return
        except UnicodeDecodeError:
            self._reject(Reject("undecodable", "the key is no text"), message)
            return
        output = task.stage.process(decoded)
        for rows in output.rows:
            outputs.setdefault(rows.key, []).append(rows.data)
        for reject in output.rejects:
            self._reject(reject, message)

    def _reject(self, reject: Reject, message: Any) -> None:
        where = {
            "stage": self._spec.name,
            "topic": message.topic(),
            "partition": str(message.partition()),
            "offset": str(message.offset()),
        }
        self._log.warning("dead letter", reason=reject.reason, detail=reject.detail, **where)
        send_dead_letter(self._outbox, reject, where, message.value() or b"")

    def _send(self, outputs: Mapping[str, list[pa.RecordBatch]]) -> None:
        for key, batches in outputs.items():
            table = pa.Table.from_batches(batches).combine_chunks()
            for data in table.to_batches(max_chunksize=MAX_ROWS):
                self._outbox.send(
                    self._spec.sink,
                    partition_of(key, self._settings.partitions),
                    key,
                    encode(data),
                    {KIND_HEADER: self._spec.sink},
                )

    # -- checkpoints and ownership --------------------------------------------------------------------------------

    def _checkpoint(self, consumer: Consumer) -> None:
        """Outputs first, then the state, then the offsets: each step only when the one before is acknowledged."""
        self._last_checkpoint = time.monotonic()
        dirty = [task for task in self._tasks.values() if task.dirty]
        if not dirty:
            return
        self._outbox.flush()
        for task in dirty:
            self._store.save(task.name, Checkpoint(task.generation, dict(task.offsets), task.stage.snapshot()))
            task.generation += 1
            task.dirty = False
        refused = commit(consumer, {key: offset for task in dirty for key, offset in task.offsets.items()})
        if refused:
            self._log.warning("commit refused", error=refused)

    def _task_id(self, partition: int) -> int:
        return 0 if self._spec.whole else partition

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Restore each task from its newest complete checkpoint and go on from the offsets that it covers."""
        if self._spec.whole and partitions and len(partitions) != self._settings.partitions:
            # Its predecessor has died and still counts as a member; when its session ends, all partitions come.
            self._log.warning("waiting for all partitions", have=len(partitions), need=self._settings.partitions)
            consumer.assign([])
            return
        for task_id in sorted({self._task_id(each.partition) for each in partitions}):
            name = f"{self._spec.name}/{task_id}"
            saved = self._store.load(name)
            stage = self._spec.make()
            if saved.generation:
                stage.restore(saved.state)
            self._tasks[task_id] = _Task(name, stage, dict(saved.offsets), saved.following)
            self._log.info("restored", task=name, generation=saved.generation)
        for each in partitions:
            known = self._tasks[self._task_id(each.partition)].offsets
            each.offset = known.get((each.topic, each.partition), OFFSET_BEGINNING)
        consumer.assign(partitions)

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._checkpoint(consumer)
        self._forget(partitions)

    def _lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Another worker has them already: write nothing."""
        self._forget(partitions)

    def _forget(self, partitions: list[TopicPartition]) -> None:
        for task_id in {self._task_id(each.partition) for each in partitions}:
            self._tasks.pop(task_id, None)
