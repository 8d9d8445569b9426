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
from typing import Any, Final, NamedTuple

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


@dataclass
class Steps:
    """Moments at which a committed offset moved: (seconds, offset, CPU seconds of the group, of the broker)."""

    started: float
    seen: list[tuple[float, int, float, float]] = field(default_factory=list)

    def steady(self, end: int) -> dict[str, float]:
        """The slope from the first step to the last one before ``end``; of a very short run, from its start."""
        inner = [step for step in self.seen if 0 < step[1] < end]
        if len(inner) < 2:
            inner = [(self.started, 0, 0.0, self.seen[0][3]), self.seen[-1]]
        (begin, first, cpu, broker), (until, last, cpu_until, broker_until) = inner[0], inner[-1]
        seconds, used = until - begin, max(cpu_until - cpu, 1e-9)
        return {
            "per_s": (last - first) / seconds,
            "per_cpu_s": (last - first) / used,
            "seconds": seconds,
            "messages": last - first,
            "commits": len(inner) - 1,
            "cores": used / seconds,
            "broker_cores": (broker_until - broker) / seconds,
            "start_up_s": self.seen[0][0] - self.started,
        }


def run_until_committed(
    settings: Settings,
    commands: Sequence[Sequence[str]],
    group: str,
    ends: Mapping[tuple[str, int], int],
    broker_pid: int,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
) -> dict[str, float]:
    """Start processes, watch their group until it has committed ``ends``, stop them; the steady state.

    Raises:
        RuntimeError: one ended too early, or they were not done in time; with what they said.
    """
    watcher = make_consumer(settings, "", {"group.id": group})
    processes = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | ONE_THREAD | dict(environment or {}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    steps = Steps(time.monotonic())
    try:
        _watch(watcher, processes, steps, ends, broker_pid, timeout_s)
    finally:
        watcher.close()
        for process in processes:
            _stop(process)
    return steps.steady(sum(ends.values()))


def _watch(
    watcher: Consumer,
    processes: Sequence[subprocess.Popen[str]],
    steps: Steps,
    ends: Mapping[tuple[str, int], int],
    broker_pid: int,
    timeout_s: float,
) -> None:
    wanted = [TopicPartition(topic, partition) for topic, partition in ends]
    pids, reached, end = [process.pid for process in processes], 0, sum(ends.values())
    while reached < end:
        now = sum(max(0, each.offset) for each in watcher.committed(wanted, timeout=10))
        running = all(process.poll() is None for process in processes)
        if now > reached:
            reached = now
            used = cpu_s(pids) if running else (steps.seen[-1][2] if steps.seen else 0.0)
            steps.seen.append((time.monotonic(), now, used, cpu_s([broker_pid])))
        elif not running and now < end:
            raise RuntimeError(f"It ended at {now:,} of {end:,} messages:\n{_said(processes)}")
        if time.monotonic() - steps.started > timeout_s:
            raise RuntimeError(f"After {timeout_s:.0f} s it has committed {now:,} of {end:,} messages.")
        time.sleep(WATCH_S)


def _said(processes: Sequence[subprocess.Popen[str]]) -> str:
    ended = [process for process in processes if process.poll() is not None]
    return "\n".join((process.stderr.read() if process.stderr else "")[-3_000:] for process in ended)


def _stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


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
