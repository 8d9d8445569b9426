"""The port at which a worker answers whether it lives, whether it takes work, and what it measures."""

from __future__ import annotations

import json
import socket
import socketserver
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Final, Self

import structlog
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from features.errors import ConfigError
from pipeline.health import Health, Verdict
from pipeline.process_metrics import ProcessMetrics
from pipeline.settings import Settings

PATHS: Final = ("/healthz", "/readyz", "/metrics")
PAUSED_LONG_S: Final = 60.0
"""A worker that a slow sink keeps waiting for so long is not ready: more work would only wait, too."""

_JSON: Final = "application/json"


class Monitor:
    """Serves ``/healthz``, ``/readyz`` and ``/metrics`` while the block runs; with port -1 it serves nothing.

    Args:
        settings: ``monitor_host`` and ``monitor_port``.
        metrics: what ``/metrics`` shows.
        health: what the other two ask.

    Attributes:
        address: ``host:port`` once the block runs, ``None`` when off.

    Raises:
        ConfigError: the address cannot be taken.
    """

    def __init__(self, settings: Settings, metrics: ProcessMetrics, health: Health) -> None:
        self._settings, self._metrics, self._health = settings, metrics, health
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self.address: str | None = None

    def __enter__(self) -> Self:
        if self._settings.monitor_port < 0:
            return self
        self._metrics.answers(lambda: self._health.alive().good, lambda: self._takes_work().good)
        self._server = _listening(self._settings, self)
        self.address = _shown(self._server)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="monitor", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = self._thread = None

    def answer(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        """Status, content type and body for a request of ``path``."""
        if path == "/healthz":
            return _told(self._health.alive())
        if path == "/readyz":
            return _told(self._takes_work())
        if path == "/metrics":
            return HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(self._metrics.registry)
        return HTTPStatus.NOT_FOUND, _JSON, _json({"paths": PATHS})

    def _takes_work(self) -> Verdict:
        paused_s = self._metrics.paused_s()
        if paused_s > PAUSED_LONG_S:
            return Verdict(False, f"a sink has kept the worker waiting for {paused_s:.0f} s")
        return self._health.takes_work()


def _told(verdict: Verdict) -> tuple[HTTPStatus, str, bytes]:
    status = HTTPStatus.OK if verdict.good else HTTPStatus.SERVICE_UNAVAILABLE
    return status, _JSON, _json({"ok": verdict.good, "why": verdict.why})


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client that dawdles must not hold the worker back
    request_queue_size = 16
    monitor: Monitor

    def server_bind(self) -> None:
        """Bind without asking the name service who we are: that can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "monitor", int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news; anything else is a fault of ours."""
        if not isinstance(sys.exception(), OSError):
            structlog.get_logger().exception("monitor failed")


class _ServerV6(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    timeout = 5  # seconds in which a request has to come
    server_version, sys_version = "hedgeflow", ""
    server: _Server
    error_content_type: ClassVar[str] = "text/plain"  # type: ignore[misc] # an instance never sets it
    error_message_format: ClassVar[str] = "%(code)d %(message)s\n"  # type: ignore[misc]

    def do_GET(self) -> None:
        self._respond(with_body=True)

    def do_HEAD(self) -> None:
        self._respond(with_body=False)

    def _respond(self, with_body: bool) -> None:
        status, content_type, body = self.server.monitor.answer(self.path.partition("?")[0])
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests come every few seconds and are no news."""


def _listening(settings: Settings, monitor: Monitor) -> _Server:
    host, port = settings.monitor_host, settings.monitor_port
    kind = _ServerV6 if ":" in host else _Server
    try:
        server = kind((host, port), _Handler)
    except OSError as error:
        raise ConfigError(
            f"The monitor cannot listen at {host}:{port}: {error.strerror or error}.",
            "Set monitor_port to a free port, to 0 to take any, or to -1 for none; monitor_host is an address of this"
            " machine.",
        ) from error
    server.monitor = monitor
    return server


def _shown(server: _Server) -> str:
    host, port = str(server.server_address[0]), server.server_address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
