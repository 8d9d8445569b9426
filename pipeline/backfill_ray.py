"""Tasks of a backfill on a Ray cluster (extra ``cluster``). The lakes lie on a disk that all nodes share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from features.errors import ConfigError, HedgeflowError
from pipeline.backfill_local import ATTEMPTS, DEFECT, LostWorkerError, UnexpectedError, raised
from pipeline.backfill_task import Done, Failed, Message, Task

POLL_S: Final = 1.0

_MESSAGE: Final = msgspec.json.Decoder(Message)


class RayCluster:
    """Runs each task as a Ray task of one core; a task whose worker is lost goes on elsewhere from its last step.

    Args:
        address: of the cluster; None: the one that ``RAY_ADDRESS`` names, or one on this machine.
        workers: tasks at once on a cluster that is started here.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        self._address = address
        self._workers = workers

    def run(self, tasks: Sequence[Task], tell: Callable[[Message], None]) -> list[Done]:
        """Run all tasks.

        Raises:
            ConfigError: ray is not installed.
            LostWorkerError: a task lost more workers than it may.
            HedgeflowError: what a task raised.
        """
        ray = _ray()
        if not ray.is_initialized():
            ray.init(log_to_driver=False, include_dashboard=False, **self._where())
        board = ray.remote(num_cpus=0)(_Board).remote()
        remote = ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1)(_run)
        waiting = {
            remote.options(name=task.name).remote(msgspec.json.encode(task), board): task
            for task in (msgspec.structs.replace(task, threads=1) for task in tasks)
        }
        done: list[Done] = []
        while waiting:
            ready, _ = ray.wait(list(waiting), timeout=POLL_S)
            for text in ray.get(board.take.remote()):
                tell(_MESSAGE.decode(text))
            done.extend(_answer(ray, each, waiting.pop(each)) for each in ready)
        return done

    def _where(self) -> dict[str, Any]:
        if self._address or "RAY_ADDRESS" in os.environ:
            return {"address": self._address}
        # A cluster of our own: nobody else's, so on loopback only.
        return {"num_cpus": self._workers, "_node_ip_address": "127.0.0.1"}


def _answer(ray: Any, reference: Any, task: Task) -> Done:
    try:
        message = _MESSAGE.decode(ray.get(reference))
    except ray.exceptions.RayTaskError as error:
        raise UnexpectedError(f"{task.name} failed: {error.cause!r}.", DEFECT) from error
    except ray.exceptions.RayError as error:
        raise LostWorkerError(
            f"{task.name} lost {ATTEMPTS} workers: {error}.", "Type the command again: it goes on from here."
        ) from error
    if isinstance(message, Failed):
        raise raised(message)
    assert isinstance(message, Done)
    return message


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ConfigError("Ray is not installed.", "pip install 'hedgeflow[cluster]', or --engine local.") from error
    return ray


class _Board:
    """Where tasks leave word of how far they are: the last one of each."""

    def __init__(self) -> None:
        self._last: dict[str, bytes] = {}

    def tell(self, task: str, text: bytes) -> None:
        self._last[task] = text

    def take(self) -> list[bytes]:
        found = list(self._last.values())
        self._last.clear()
        return found


def _run(text: bytes, board: Any) -> bytes:
    """On a worker."""
    from pipeline.backfill_step import run_task

    task = msgspec.json.decode(text, type=Task)

    def tell(message: Message) -> None:
        board.tell.remote(message.task, msgspec.json.encode(message))

    try:
        return msgspec.json.encode(run_task(task, tell))
    except HedgeflowError as error:
        return msgspec.json.encode(Failed(task.name, type(error).__name__, error.problem, error.remedy))
