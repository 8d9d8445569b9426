"""Tasks of a backfill on this machine: in this process, or in several of their own.

The processes are started anew, not forked, and spoken to in lines of JSON: nothing is pickled. One that sees its input
end knows that we are gone, and ends at once.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import msgspec

from features.errors import HedgeflowError
from pipeline.backfill_step import run_task
from pipeline.backfill_task import Done, Failed, Message, Task

ATTEMPTS: Final = 3
"""Times that a task is begun before the loss of its process is the task's own fault."""

DEFECT: Final = "This is a defect: report it with the command that you typed."

_MESSAGE: Final = msgspec.json.Decoder(Message)


class LostWorkerError(HedgeflowError):
    """A worker's process ended without a word."""


class UnexpectedError(HedgeflowError):
    """A worker failed with an error that nobody expected."""


def raised(failed: Failed) -> HedgeflowError:
    """The error that a worker told, as it was."""
    found = next((each for each in _all_errors(HedgeflowError) if each.__name__ == failed.kind), None)
    if found is None:
        return UnexpectedError(f"{failed.task} failed: {failed.problem}", failed.remedy)
    error = found.__new__(found)
    HedgeflowError.__init__(error, failed.problem, failed.remedy)
    return error


def _all_errors(base: type[HedgeflowError]) -> list[type[HedgeflowError]]:
    return [base, *(each for child in base.__subclasses__() for each in _all_errors(child))]


class InProcess:
    """Runs one task after another, here."""

    def run(self, tasks: Sequence[Task], tell: Callable[[Message], None]) -> list[Done]:
        """Run all tasks."""
        return [run_task(task, tell) for task in tasks]


class LocalProcesses:
    """Runs tasks in processes of their own; one task runs in this one.

    Args:
        workers: processes at once.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def run(self, tasks: Sequence[Task], tell: Callable[[Message], None]) -> list[Done]:
        """Run all tasks, the largest first.

        Raises:
            LostWorkerError: a task lost ``ATTEMPTS`` processes.
            HedgeflowError: what a task raised.
        """
        count = min(self._workers, len(tasks))
        if count <= 1:
            return InProcess().run(tasks, tell)
        with _Pool(count, tasks, tell) as pool:
            return pool.finish()


@dataclass(slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    task: Task | None = None
    text: bytes = b""


@dataclass(slots=True)
class _Pool:
    count: int
    tasks: Sequence[Task]
    tell: Callable[[Message], None]
    _workers: list[_Worker] = field(default_factory=list)
    _lost: dict[str, int] = field(default_factory=dict)
    _done: list[Done] = field(default_factory=list)
    _queue: deque[Task] = field(default_factory=deque)

    def __enter__(self) -> _Pool:
        self._queue.extend(sorted(self.tasks, key=_size, reverse=True))
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.process.kill()
            worker.process.wait()
            for pipe in (worker.process.stdin, worker.process.stdout):
                # What it did not read any more cannot be flushed.
                with suppress(BrokenPipeError):
                    if pipe is not None:
                        pipe.close()

    def finish(self) -> list[Done]:
        """Until every task is done."""
        with selectors.DefaultSelector() as selector:
            for _ in range(self.count):
                self._start(selector)
            while len(self._done) < len(self.tasks):
                for key, _ in selector.select():
                    self._hear(selector, key.data)
        return self._done

    def _start(self, selector: selectors.BaseSelector) -> None:
        threads = str(max(1, (os.cpu_count() or 1) // self.count))
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.backfill_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "POLARS_MAX_THREADS": threads},
        )
        worker = _Worker(process)
        self._workers.append(worker)
        selector.register(process.stdout, selectors.EVENT_READ, worker)  # type: ignore[arg-type]  # a pipe was asked for
        self._give(worker)

    def _give(self, worker: _Worker) -> None:
        worker.task = self._queue.popleft() if self._queue else None
        if worker.task is None:
            return
        threads = max(1, (os.cpu_count() or 1) // self.count)
        task = msgspec.structs.replace(worker.task, threads=threads)
        assert worker.process.stdin is not None
        # If it is gone, its output ends, too, and there we take the task back.
        with suppress(BrokenPipeError):
            worker.process.stdin.write(msgspec.json.encode(task) + b"\n")
            worker.process.stdin.flush()

    def _hear(self, selector: selectors.BaseSelector, worker: _Worker) -> None:
        stdout = worker.process.stdout
        assert stdout is not None
        text = os.read(stdout.fileno(), 1 << 16)
        if not text:
            selector.unregister(stdout)
            self._take_back(worker)
            self._start(selector)
            return
        *lines, worker.text = (worker.text + text).split(b"\n")
        for line in lines:
            self._on_message(worker, _MESSAGE.decode(line))

    def _on_message(self, worker: _Worker, message: Message) -> None:
        match message:
            case Failed():
                raise raised(message)
            case Done():
                self._done.append(message)
                self.tell(message)
                self._give(worker)
            case _:
                self.tell(message)

    def _take_back(self, worker: _Worker) -> None:
        code = worker.process.wait()
        task, worker.task = worker.task, None
        if task is None:
            return
        self._lost[task.name] = self._lost.get(task.name, 0) + 1
        if self._lost[task.name] == ATTEMPTS:
            raise LostWorkerError(
                f"{task.name} lost {ATTEMPTS} processes; the last ended with {code}.",
                "-9 is often a lack of memory: fewer --workers. Type the command again: it goes on from here.",
            )
        self._queue.appendleft(task)


def _size(task: Task) -> int:
    return task.log.rows if task.log is not None else 0
