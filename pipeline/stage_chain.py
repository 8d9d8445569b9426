"""A chain of stages between a topic and topics, with checkpoints, so that nothing is lost and nothing counts twice.

Outputs are at least once: after a crash the chain goes on from its last checkpoint and sends again what it had sent
since. Rows carry (key, bar), and every consumer drops what is not beyond the last bar that it has; so the effect is
exactly once (DESIGN 4). With ``processing_guarantee = exactly_once`` outputs, checkpoint and offsets are one Kafka
transaction besides, for readers that do not know (key, bar).
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import structlog

from features.errors import ConfigError
from features.events import EventBatch
from features.stage import Reject, Stage
from pipeline.chain import flow, restore, snapshot
from pipeline.chain_spec import ChainSpec, Ending
from pipeline.checkpoint import Checkpoint, CheckpointStore
from pipeline.codec import KIND_HEADER, MAX_ROWS, UndecodableError, encode
from pipeline.dead_letters import where_of
from pipeline.kafka import committed_offsets, header, partition_of
from pipeline.log import Outbox, send_dead_letter
from pipeline.log_identity import read_log_id, require_same_log
from pipeline.metrics import WorkerMetrics
from pipeline.processor import GroupMetadata, Offsets, Position
from pipeline.settings import Settings

MAX_WAITING_ROWS: Final = 20_000


@dataclass(slots=True)
class _Task:
    """The stages' state over the partitions that it covers."""

    name: str
    stages: list[tuple[str, Stage[Any]]]
    ending: Ending | None
    offsets: dict[Position, int]
    generation: int
    dirty: bool = False
    outputs: dict[tuple[str, str], list[pa.RecordBatch]] = field(default_factory=dict)


@dataclass(slots=True)
class _Saving:
    """A checkpoint on its way: the outputs before it, then the state, then the offsets.

    Args:
        states: of each task.
        covered: the sources' offsets, once it is durable.
        outputs: up to this mark they have to be acknowledged before the states are sent; and each ending's.
        endings: see above.
        sent: the mark after the states, once they were sent.
    """

    states: list[tuple[_Task, Checkpoint]]
    covered: Offsets
    outputs: int
    endings: list[tuple[Ending, int]]
    sent: int | None = None


class StageChain:
    """A :class:`pipeline.processor.Processor` that runs a :class:`ChainSpec`."""

    def __init__(self, settings: Settings, spec: ChainSpec, metrics: WorkerMetrics) -> None:
        self.name = spec.name
        self.sources: Sequence[str] = (spec.source,)
        self.alone = spec.whole
        self._settings = settings
        self._spec = spec
        self._sinks = {stage.name: stage.sink for stage in spec.stages}
        self._metrics = metrics
        self._log = structlog.get_logger().bind(stage=spec.name)
        self._patience_s = settings.broker_patience_ms / 1_000
        self._transactional = settings.processing_guarantee == "exactly_once" and bool(spec.stages)
        member = settings.member or uuid.uuid4().hex
        name = f"{settings.application}.{spec.name}.{member}" if self._transactional else ""
        self._outbox = Outbox(settings, linger_ms=1, transactional_id=name)
        self._store = CheckpointStore(settings, self._outbox)
        self._tasks: dict[int, _Task] = {}
        self._log_id = ""
        self._saving: _Saving | None = None
        self._durable: dict[Position, int] = {}
        self._bytes = 0
        self._latest: Any = None

    # -- ownership ------------------------------------------------------------------------------------------------

    def assigned(self, partitions: Collection[Position]) -> Offsets:
        """Restore each task from its newest complete checkpoint; where its offsets go on.

        Raises:
            ConfigError: the state is of another catalogue or configuration.
            LostLogError: the state is of another log.
        """
        self._log_id = read_log_id(self._settings, self._patience_s)
        for task_id in sorted({self._task_id(partition) for _, partition in partitions}):
            self._tasks[task_id] = self._restored(f"{self.name}/{task_id}", partitions)
        return {position: self._tasks[self._task_id(position[1])].offsets.get(position, 0) for position in partitions}

    def _restored(self, name: str, partitions: Collection[Position]) -> _Task:
        saved = self._load(name, partitions)
        stages = [(stage.name, stage.make()) for stage in self._spec.stages]
        ending = self._spec.ending() if self._spec.ending else None
        if saved.generation:
            self._require_ours(name, saved)
            restore(stages, saved.state)
        if ending:
            ending.restore(saved.state, saved.offsets)
        self._log.info("restored", task=name, generation=saved.generation, bytes=saved.size)
        # The group's offsets may stand behind it (a crash between the two, a zombie's late commit): say it once more.
        return _Task(name, stages, ending, dict(saved.offsets), saved.following, dirty=bool(saved.generation))

    def _load(self, name: str, partitions: Collection[Position]) -> Checkpoint:
        """The newest checkpoint; of transactions the one whose offsets the group has.

        A transaction that another worker left open hides newer records of the topic until its time is up.
        """
        saved = self._store.load(name)
        if not self._transactional:
            return saved
        committed = committed_offsets(self._settings, self.name, self.sources)
        deadline = time.monotonic() + self._patience_s
        mine = [each for each in partitions if f"{self.name}/{self._task_id(each[1])}" == name]
        while any(saved.offsets.get(each, 0) < committed.get(each, 0) for each in mine):
            if time.monotonic() > deadline:
                self._log.warning("the checkpoint is behind the group's offsets", task=name)
                break
            time.sleep(0.5)
            saved = self._store.load(name)
        return saved

    def _require_ours(self, name: str, saved: Checkpoint) -> None:
        if saved.log_id:
            require_same_log(saved.log_id, self._log_id)
        if saved.version and saved.version != self._spec.version:
            raise ConfigError(
                f"The checkpoint of {name} is of {saved.version}, this configuration is {self._spec.version}.",
                "State of another catalogue or bar length cannot go on: restore the configuration, or run under "
                "another `application`, which computes again from the log's start (docs/operations.md).",
            )

    def released(self, partitions: Collection[Position]) -> None:
        """Forget the tasks of these partitions, and what of theirs is not committed."""
        if self._transactional:
            self._outbox.abort()
        if self._saving is not None:
            # What others' tasks have of it is saved with their next one.
            for unsaved, _ in self._saving.states:
                unsaved.dirty = True
            self._saving = None
        self._durable.clear()
        for task_id in {self._task_id(partition) for _, partition in partitions}:
            task = self._tasks.pop(task_id, None)
            if task is None:
                continue
            self._metrics.forgot(task.name)
            if task.ending is not None:
                task.ending.close()

    def _task_id(self, partition: int) -> int:
        return 0 if self._spec.whole else partition

    # -- messages -------------------------------------------------------------------------------------------------

    def take(self, messages: Sequence[Any]) -> None:
        """Run messages through the stages, and send what they give."""
        size = rows = 0
        for message in messages:
            payload = message.value() or b""
            size += len(payload)
            rows += self._process(message, payload)
        self._bytes += size
        if self._latest is not None:
            self._metrics.watermark(stream_time(self._latest))
            self._latest = None
        self._metrics.took(self._spec.source, len(messages), size)
        self._metrics.rows(self._spec.source, rows)
        for task in self._tasks.values():
            self._send(task)

    def _process(self, message: Any, payload: bytes) -> int:
        """One message; how many rows it has."""
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        task = self._tasks.get(self._task_id(partition))
        if task is None or offset < task.offsets.get((topic, partition), 0):
            return 0
        task.offsets[topic, partition] = offset + 1
        task.dirty = True
        try:
            key = (message.key() or b"").decode()
            item = self._spec.decode(header(message, KIND_HEADER) or "", key, payload)
        except UndecodableError as error:
            self._reject(Reject(error.reason, error.detail), message)
            return 0
        except UnicodeDecodeError:
            self._reject(Reject("undecodable", "the key is no text"), message)
            return 0
        self._run(task, item, message)
        self._latest = item
        data = getattr(item, "data", item)
        return int(getattr(data, "num_rows", 1))

    def _run(self, task: _Task, item: Any, message: Any) -> None:
        last = self._spec.stages[-1].name if self._spec.stages else None
        if last is None and task.ending is not None:
            task.ending.take(item)
        rejected: Counter[tuple[str, str, str]] = Counter()
        waiting = 0
        for name, output in flow(task.stages, item):
            for reject in output.rejects:
                rejected[name, reject.reason, reject.detail] += reject.rows
            for rows in output.rows:
                task.outputs.setdefault((self._sinks[name], rows.key), []).append(rows.data)
                waiting += rows.data.num_rows
                if name == last and task.ending is not None:
                    task.ending.take(rows.data)
            if waiting > MAX_WAITING_ROWS:  # one message may close many bars
                self._send(task)
                waiting = 0
        for (name, reason, detail), number in rejected.items():
            self._reject(Reject(reason, detail, number), message, name)

    def _reject(self, reject: Reject, message: Any, stage: str = "") -> None:
        where = {
            "stage": stage or self.name,
            "topic": message.topic(),
            "partition": str(message.partition()),
            "offset": str(message.offset()),
        }
        self._log.warning("dead letter", reason=reject.reason, detail=reject.detail, **where)
        self._metrics.dead_letter(reject.reason, reject.rows)
        send_dead_letter(self._outbox, reject, where_of(message, where["stage"]), message.value() or b"")

    def _send(self, task: _Task) -> None:
        for (sink, key), batches in task.outputs.items():
            table = pa.Table.from_batches(batches).combine_chunks()
            for data in table.to_batches(max_chunksize=MAX_ROWS):
                partition = partition_of(key, self._settings.partitions)
                self._outbox.send(sink, partition, key, encode(data), {KIND_HEADER: sink})
            self._metrics.sent(sink, table.num_rows)
        task.outputs.clear()

    # -- between messages -----------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Hear of acknowledgements; let the ending see the time."""
        self._outbox.poll()
        self._metrics.queue(self._outbox.queued)
        for task in self._tasks.values():
            if task.ending is not None and task.ending.tick():
                task.dirty = True
        self._save_on()

    def full(self) -> bool:
        """Whether the broker is behind in taking our outputs."""
        return self._outbox.queued >= self._settings.queue_messages

    def due(self) -> bool:
        """Whether a crash would have to read more than ``checkpoint_bytes`` again."""
        return self._bytes >= self._settings.checkpoint_bytes

    def checkpoint(self, group: GroupMetadata, *, patience_s: float | None) -> None:
        """Outputs first, then the state, then the offsets: each step only when the one before is acknowledged.

        :meth:`tick` takes the steps while messages flow on; with patience they are waited for, as a transaction is.
        """
        if self._transactional:
            self._transact(group, self._patience_s if patience_s is None else patience_s)
            return
        if self._saving is None:
            self._begin_saving()
        while patience_s is not None and self._saving is not None:
            self._flush(patience_s)
            self._save_on()
            if self._saving is None:
                self._begin_saving()  # what was taken while the last one was on its way

    def durable(self) -> Offsets:
        """What the states of the last checkpoints cover."""
        durable, self._durable = self._durable, {}
        return durable

    def _dirty(self) -> list[_Task]:
        self._bytes = 0
        return [task for task in self._tasks.values() if task.dirty]

    def _covered(self, tasks: Sequence[_Task]) -> dict[Position, int]:
        return {each: at for task in tasks for each, at in task.offsets.items() if each[0] in self.sources}

    def _flush(self, patience_s: float) -> None:
        for task in self._tasks.values():
            if task.ending is not None:
                task.ending.flush(patience_s)
        self._outbox.flush(patience_s)

    def _transact(self, group: GroupMetadata, patience_s: float) -> None:
        dirty = self._dirty()
        if not dirty:
            return
        self._flush(patience_s)
        for task in dirty:
            self._store.send(task.name, self._state(task))
        self._outbox.commit(self._covered(dirty), group())
        for task in dirty:
            task.generation += 1
            task.dirty = False

    def _begin_saving(self) -> None:
        """Take the states; their offsets are of this moment."""
        dirty = self._dirty()
        if not dirty:
            return
        endings = [(task.ending, task.ending.mark()) for task in dirty if task.ending is not None]
        states = [(task, self._state(task)) for task in dirty]
        self._saving = _Saving(states, self._covered(dirty), self._outbox.mark(), endings)
        for task in dirty:
            task.dirty = False

    def _save_on(self) -> None:
        """Take the next step if what came before is acknowledged."""
        saving = self._saving
        if saving is None:
            return
        if saving.sent is None:
            if not self._outbox.acknowledged(saving.outputs):
                return
            if not all(ending.acknowledged(mark) for ending, mark in saving.endings):
                return
            for task, state in saving.states:
                self._store.send(task.name, state)
                task.generation += 1
            saving.sent = self._outbox.mark()
        if self._outbox.acknowledged(saving.sent):
            self._durable.update(saving.covered)
            self._saving = None

    def _state(self, task: _Task) -> Checkpoint:
        begin = time.monotonic()
        state, offsets = snapshot(task.stages), dict(task.offsets)
        if task.ending is not None:
            state.update(task.ending.snapshot())
            offsets.update(task.ending.offsets())
        saved = Checkpoint(task.generation, offsets, state, version=self._spec.version, log_id=self._log_id)
        self._metrics.checkpoint(task.name, saved.size, time.monotonic() - begin)
        return saved

    def close(self) -> None:
        """Abort what is not committed, and let go."""
        self.released([(source, task_id) for source in self.sources for task_id in list(self._tasks)])


def stream_time(item: Any) -> int:
    """The stream time (ns) that an input brings its reader to: the last row's, of computed rows the last bar's."""
    if isinstance(item, EventBatch):
        return int(item.data.column(1)[-1].as_py() + item.data.column(4)[-1].as_py())
    if isinstance(item, pa.RecordBatch):
        return int(item.column("bar_ts")[-1].as_py())
    return 0
