"""A process that runs tasks of a backfill: ``python -m pipeline.backfill_worker``, a task a line in, messages out."""

from __future__ import annotations

import os
import queue
import sys
import threading
from typing import IO

import msgspec

from features.errors import HedgeflowError
from pipeline.backfill_local import DEFECT
from pipeline.backfill_step import run_task
from pipeline.backfill_task import Failed, Message, Task


def main() -> None:
    """Run the tasks that come on standard input until it ends."""
    # What a library prints must not come between our lines.
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin.buffer, tasks), daemon=True).start()

    def tell(message: Message) -> None:
        out.write(msgspec.json.encode(message) + b"\n")

    while True:
        task = tasks.get()
        try:
            tell(run_task(task, tell))
        except HedgeflowError as error:
            tell(Failed(task.name, type(error).__name__, error.problem, error.remedy))
        except Exception as error:
            tell(Failed(task.name, "", f"{type(error).__name__}: {error}.", DEFECT))
            raise


def _read(lines: IO[bytes], tasks: queue.SimpleQueue[Task]) -> None:
    for line in lines:
        tasks.put(msgspec.json.decode(line, type=Task))
    # Whoever gave us tasks is gone, and may be back already: leave the lake to it. A commit is whole or not at all.
    os._exit(0)


if __name__ == "__main__":
    main()
