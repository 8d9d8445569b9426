"""Workers as processes of their own: started, watched, stopped, and for tests killed and paused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final

from features.errors import HedgeflowError
from pipeline.kafka import committed_offsets, end_offsets
from pipeline.settings import Settings
from pipeline.worker_specs import sources_of

STOP_TIMEOUT_S: Final = 20.0
MAX_RESTARTS: Final = 20


class WorkerDiedError(HedgeflowError):
    """A worker process ended by itself."""


class WorkerProcess:
    """``hedgeflow stream run STAGE...`` as a child process.

    Args:
        stage: the stage to run; of a chain, the names joined with ``-``.
        environment: settings as ``HEDGEFLOW_*`` variables.
        log: file for its log lines.
    """

    def __init__(self, stage: str, environment: Mapping[str, str], log: Path) -> None:
        self.stage = stage
        self._environment = dict(environment)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.restarts = 0

    def start(self) -> WorkerProcess:
        """Start it, or start it again."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.cli", "stream", "run", *self.stage.split("-"), "--with-parent"],
                env={**os.environ, **self._environment},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return self

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def check(self) -> None:
        """Start it again if a signal has ended it: it goes on from its checkpoint. An error of its own is final.

        Raises:
            WorkerDiedError: it ended with an error, or was killed too often; with the last line of its log.
        """
        status = None if self._process is None else self._process.poll()
        if status is None:
            return
        if status < 0 and self.restarts < MAX_RESTARTS:
            self.restarts += 1
            self.start()
            return
        lines = self._log.read_text(errors="replace").strip().splitlines() if self._log.exists() else []
        raise WorkerDiedError(
            f"The {self.stage} worker ended with status {status}: {lines[-1] if lines else ''}",
            f"Its log is {self._log}.",
        )

    def kill(self) -> None:
        """End it at once, as a crash does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """Freeze it, as a long stall does."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> int:
        """Ask it to finish, and wait; returns its exit status."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        return self._process.returncode


class Workers:
    """Several worker processes that live and end together."""

    def __init__(self, settings: Settings, environment: Mapping[str, str], logs: Path) -> None:
        self._settings = settings
        self._environment = environment
        self._logs = logs
        self._workers: dict[str, WorkerProcess] = {}

    def start(self, *stages: str) -> None:
        """Start a worker for each stage."""
        self._logs.mkdir(parents=True, exist_ok=True)
        for stage in stages:
            self._workers[stage] = WorkerProcess(stage, self._environment, self._logs / f"{stage}.log").start()

    def __getitem__(self, stage: str) -> WorkerProcess:
        return self._workers[stage]

    def check(self) -> None:
        """Start again what was killed; raise if any has ended by itself."""
        for worker in self._workers.values():
            worker.check()

    @property
    def restarts(self) -> int:
        """How many workers were killed by somebody and started again."""
        return sum(worker.restarts for worker in self._workers.values())

    def lag(self) -> dict[str, int]:
        """Messages that each worker has not taken into a checkpoint yet."""
        return self._lag(self._ends())

    def _ends(self) -> Mapping[tuple[str, int], int]:
        return end_offsets(self._settings, sorted({t for s in self._workers for t in sources_of(s)}))

    def _lag(self, ends: Mapping[tuple[str, int], int]) -> dict[str, int]:
        lag: dict[str, int] = {}
        for stage in self._workers:
            done = committed_offsets(self._settings, stage, sources_of(stage))
            lag[stage] = sum(ends[key] - at for key, at in done.items())
        return lag

    def drain(self, timeout_s: float = 300.0, pause_s: float = 0.2) -> None:
        """Wait until every worker has taken everything that is in its topics.

        That no worker lags counts when it is seen twice with the same ends: a worker commits after it has sent, so what
        was on its way to the next one at the first look is there at the second.

        Raises:
            WorkerDiedError: one ended, or they were not done in time.
        """
        deadline = time.monotonic() + timeout_s
        seen: Mapping[tuple[str, int], int] | None = None
        while True:
            ends = self._ends()
            idle = not any(self._lag(ends).values())
            if idle and ends == seen:
                return
            seen = ends if idle else None
            self.check()
            if time.monotonic() > deadline:
                raise WorkerDiedError(f"After {timeout_s:.0f} s workers lag: {self.lag()}.", f"See {self._logs}.")
            time.sleep(pause_s)

    def stop(self) -> None:
        """End all, the last of the chain last."""
        for worker in self._workers.values():
            worker.stop()
        self._workers.clear()

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def environment_of(settings: Settings) -> dict[str, str]:
    """Settings as the environment of a worker process."""
    import msgspec

    values = settings.model_dump(mode="json", exclude_none=True)
    return {
        f"HEDGEFLOW_{name.upper()}": value if isinstance(value, str) else msgspec.json.encode(value).decode()
        for name, value in values.items()
    }
