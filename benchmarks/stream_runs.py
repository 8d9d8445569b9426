"""Processes on one broker, watched from outside: how fast their group's committed offsets move, and what CPU they use.

Ours and a peer are measured alike and undisturbed: the committed offset, asked for every few milliseconds. Between its
first and its last step before the end of the topic lies the steady state: start-up comes before the first step. On a
machine that others use, messages per second of *CPU time* say more than messages per second.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Final, NamedTuple

import pyarrow as pa
from confluent_kafka import Consumer, TopicPartition

from benchmarks.peers import ONE_THREAD, ROOT
from pipeline.kafka import create_topics, make_consumer, make_producer, make_reader, read_to_end
from pipeline.settings import Settings
from pipeline.topics import TopicSpec

WATCH_S: Final = 0.01
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


class Sent(NamedTuple):
    """One message that a topic is filled with."""

    partition: int
    key: bytes
    value: bytes
    timestamp_ms: int


def fill(settings: Settings, topic: str, messages: Iterable[Sent], partitions: int = 1) -> int:
    """Make a topic and fill it; returns how many messages it got."""
    made = settings.model_copy(update={"partitions": partitions})
    create_topics(made, (TopicSpec(topic, key="symbol", per_underlying=True),))
    producer = make_producer(settings, linger_ms=20)
    number = 0
    for number, each in enumerate(messages, 1):
        while True:
            try:
                producer.produce(topic, each.value, each.key, each.partition, timestamp=each.timestamp_ms)
                break
            except BufferError:
                producer.poll(0.05)
        if number % 1_000 == 0:
            producer.poll(0)
    producer.flush()
    return number


def cpu_s(pids: Sequence[int]) -> float:
    """CPU time that processes have used."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS_PER_S


class Step(NamedTuple):
    """A moment at which a committed offset moved."""

    at: float
    offsets: tuple[int, ...]
    cpu_s: float
    broker_s: float


@dataclass
class Steps:
    """What was seen of a group, and when its processes were started."""

    started: float
    ends: tuple[int, ...]
    seen: list[Step] = field(default_factory=list)

    def steady(self) -> dict[str, float]:
        """The slope while all partitions are being worked on; of a very short run, from its start to its end.

        ``whole_run`` says that it is the latter, which has the start-up in it.
        """
        inner = [
            each for each in self.seen if all(0 < at < end for at, end in zip(each.offsets, self.ends, strict=True))
        ]
        whole_run = len(inner) < 2
        if whole_run:
            inner = [Step(self.started, (0,) * len(self.ends), 0.0, self.seen[0].broker_s), self.seen[-1]]
        first, last = inner[0], inner[-1]
        seconds, used = last.at - first.at, max(last.cpu_s - first.cpu_s, 1e-9)
        messages = sum(last.offsets) - sum(first.offsets)
        return {
            "per_s": messages / seconds,
            "per_cpu_s": messages / used,
            "seconds": seconds,
            "messages": messages,
            "commits": len(inner) - 1,
            "cores": used / seconds,
            "broker_cores": (last.broker_s - first.broker_s) / seconds,
            "start_up_s": self.seen[0].at - self.started,
            "whole_run": float(whole_run),
        }


class Watch(NamedTuple):
    """What is waited for, beside whom, and how long."""

    ends: Mapping[tuple[str, int], int]
    broker_pid: int
    timeout_s: float


def run_until_committed(
    settings: Settings,
    commands: Sequence[Sequence[str]],
    group: str,
    ends: Mapping[tuple[str, int], int],
    broker_pid: int,
    timeout_s: float,
    environments: Sequence[Mapping[str, str]],
) -> dict[str, float]:
    """Start processes, watch their group until it has committed ``ends``, stop them; the steady state.

    Raises:
        RuntimeError: one ended too early, or they were not done in time; with what they said.
    """
    with TemporaryFile() as said:
        steps = _watched(settings, commands, environments, group, Watch(ends, broker_pid, timeout_s), said)
    return steps.steady()


def _watched(
    settings: Settings,
    commands: Sequence[Sequence[str]],
    environments: Sequence[Mapping[str, str]],
    group: str,
    watch: Watch,
    said: IO[bytes],
) -> Steps:
    watcher = make_consumer(settings, "", {"group.id": group})
    processes = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | ONE_THREAD | environment,
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        for command, environment in zip(commands, environments, strict=True)
    ]
    steps = Steps(time.monotonic(), tuple(watch.ends.values()))
    try:
        _watch(watcher, processes, steps, watch)
    except RuntimeError as error:
        said.seek(0)
        raise RuntimeError(f"{error}\n{said.read()[-3_000:].decode(errors='replace')}") from error
    finally:
        watcher.close()
        for process in processes:
            _stop(process)
    return steps


def _watch(
    watcher: Consumer,
    processes: Sequence[subprocess.Popen[bytes]],
    steps: Steps,
    watch: Watch,
) -> None:
    wanted = [TopicPartition(topic, partition) for topic, partition in watch.ends]
    pids, reached = [process.pid for process in processes], (0,) * len(wanted)
    while any(at < end for at, end in zip(reached, steps.ends, strict=True)):
        now = tuple(max(0, each.offset) for each in watcher.committed(wanted, timeout=10))
        running = all(process.poll() is None for process in processes)
        if now != reached:
            reached = now
            used = cpu_s(pids) if running else steps.seen[-1].cpu_s
            steps.seen.append(Step(time.monotonic(), now, used, cpu_s([watch.broker_pid])))
        elif not running:
            raise RuntimeError(f"It ended at {now} of {steps.ends} messages.")
        if time.monotonic() - steps.started > watch.timeout_s:
            raise RuntimeError(f"After {watch.timeout_s:.0f} s it has committed {now} of {steps.ends} messages.")
        time.sleep(WATCH_S)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def hedgeflow(*arguments: str) -> list[str]:
    """Our command, as a user gives it."""
    return [sys.executable, "-m", "pipeline.cli", *arguments]


def values(settings: Settings, topic: str, partitions: int, decode: Callable[[Any], Any]) -> list[Any]:
    """What a topic holds."""
    reader = make_reader(settings)
    try:
        return [decode(each) for each in read_to_end(reader, [TopicPartition(topic, i, 0) for i in range(partitions)])]
    finally:
        reader.close()


def arrow_rows(settings: Settings, topic: str, partitions: int = 1) -> pa.Table:
    """The rows of a topic of Arrow messages."""
    batches = values(settings, topic, partitions, lambda each: pa.ipc.open_stream(each.value()).read_next_batch())
    return pa.Table.from_batches(batches)
