"""One websocket that is kept up: it connects again after every failure, and never sends faster than allowed."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidURI, WebSocketException

from features.errors import ConfigError, HedgeflowError
from pipeline.sources.live.rate_limit import TokenBucket

OnFrame = Callable[[bytes], None]


class VenueError(HedgeflowError):
    """A venue cannot be reached, or refuses."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class ConnectionConfig:
    """How a connection is kept.

    Attributes:
        stall_timeout_s: without a message for so long, the connection counts as dead.
        ping_interval_s: between our own pings; one unanswered for as long ends the connection.
        max_frame_bytes: a larger message ends the connection.
        backoff_initial_s, backoff_max_s: the wait before attempt k is ``min(max, initial 2^k) u`` with u uniform in
            [0.5, 1): clients that were cut off together do not come back together. A connection that held for
            ``backoff_max_s`` starts again at k = 0.
        first_attempts: after so many failures without any success the venue counts as unreachable.
        requests_per_s, request_burst: how fast requests may go out.
    """

    stall_timeout_s: float = 30.0
    open_timeout_s: float = 10.0
    ping_interval_s: float = 15.0
    max_frame_bytes: int = 1 << 25
    backoff_initial_s: float = 0.25
    backoff_max_s: float = 30.0
    first_attempts: int = 8
    requests_per_s: float = 5.0
    request_burst: int = 10


class Backoff:
    """The waits between attempts, drawn from ``seed``."""

    def __init__(self, config: ConnectionConfig, seed: int) -> None:
        self._config = config
        self._random = random.Random(seed)
        self.attempt = 0

    def reset(self) -> None:
        """Start again with the shortest wait."""
        self.attempt = 0

    def __iter__(self) -> Iterator[float]:
        return self

    def __next__(self) -> float:
        """The next wait, seconds."""
        most = min(self._config.backoff_max_s, self._config.backoff_initial_s * 2.0 ** min(self.attempt, 60))
        self.attempt += 1
        return most * self._random.uniform(0.5, 1.0)


class Connection:
    """Messages of one URL, for as long as :meth:`run` runs.

    Args:
        url: ``ws://`` or ``wss://``.
        on_frame: receives every message, text or binary, in order.
        on_open: is called whenever the connection is up again, for instance to :meth:`post` subscriptions.
        config: how the connection is kept.
        seed: of the jitter.
        bucket: limits what is sent; connections of one account may share it.
    """

    def __init__(
        self,
        url: str,
        on_frame: OnFrame,
        *,
        on_open: Callable[[], None] | None = None,
        config: ConnectionConfig | None = None,
        seed: int = 0,
        bucket: TokenBucket | None = None,
    ) -> None:
        self.url = url
        self.counts: Counter[str] = Counter()
        """``opened``, ``frames``, ``requests``, and why it ended: ``closed``, ``stalled``, ``refused``."""
        self._config = config or ConnectionConfig()
        self._on_frame = on_frame
        self._on_open = on_open
        self._backoff = Backoff(self._config, seed)
        self._bucket = bucket or TokenBucket(self._config.requests_per_s, self._config.request_burst)
        self._outbox: asyncio.Queue[bytes] | None = None
        self._log = structlog.get_logger().bind(url=url.partition("?")[0])

    @property
    def is_open(self) -> bool:
        """Whether messages can come and go now."""
        return self._outbox is not None

    def post(self, message: bytes) -> None:
        """Send as text, in order, as soon as the rate allows it.

        While the connection is down, and for what it leaves unsent, nothing happens: whoever asked for something asks
        again in ``on_open``.
        """
        if self._outbox is not None:
            self._outbox.put_nowait(message)

    async def run(self) -> NoReturn:
        """Receive until cancelled.

        Raises:
            ConfigError: the URL is none.
            VenueError: the venue was never reached.
        """
        while True:
            since = asyncio.get_running_loop().time()
            reason, detail = await self._once()
            self.counts[reason] += 1
            if asyncio.get_running_loop().time() - since >= self._config.backoff_max_s:
                self._backoff.reset()
            if not self.counts["opened"] and self._backoff.attempt + 1 >= self._config.first_attempts:
                raise VenueError(
                    f"{self.url.partition('?')[0]} cannot be reached: {detail}.", "Check --url and the net."
                )
            wait_s = next(self._backoff)
            self._log.warning("connection lost", reason=reason, detail=detail, again_in_s=round(wait_s, 3))
            await asyncio.sleep(wait_s)

    async def _once(self) -> tuple[str, str]:
        """One connection, to its end; why it ended."""
        config = self._config
        try:
            async with connect(
                self.url,
                open_timeout=config.open_timeout_s,
                ping_interval=config.ping_interval_s,
                ping_timeout=config.ping_interval_s,
                close_timeout=1.0,
                max_size=config.max_frame_bytes,
            ) as socket:
                return await self._receive(socket)
        except InvalidURI as error:
            raise ConfigError(f"{self.url} is no websocket URL.", "It begins with ws:// or wss://.") from error
        except (OSError, TimeoutError, WebSocketException) as error:
            return "refused", str(error) or type(error).__name__

    async def _receive(self, socket: ClientConnection) -> tuple[str, str]:
        self._outbox = asyncio.Queue()
        self.counts["opened"] += 1
        self._log.info("connected")
        sender = asyncio.ensure_future(self._send(socket, self._outbox))
        try:
            if self._on_open is not None:
                self._on_open()
            await self._frames(socket)
        except TimeoutError:
            return "stalled", f"no message for {self._config.stall_timeout_s:g} s"
        except ConnectionClosed as error:
            return "closed", str(error)
        finally:
            self._outbox = None
            sender.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sender

    async def _send(self, socket: ClientConnection, outbox: asyncio.Queue[bytes]) -> None:
        while True:
            message = await outbox.get()
            await self._bucket.acquire()
            try:
                await socket.send(message, text=True)
            except ConnectionClosed:
                return
            self.counts["requests"] += 1

    async def _frames(self, socket: ClientConnection) -> NoReturn:
        stall_s = self._config.stall_timeout_s
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(stall_s) as deadline:
            while True:
                frame = await socket.recv(decode=False)
                deadline.reschedule(loop.time() + stall_s)
                self.counts["frames"] += 1
                self._on_frame(frame)
