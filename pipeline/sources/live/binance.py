"""Binance live: combined streams of depth, trades, best quotes and mark prices, and the REST snapshots they need."""

from __future__ import annotations

import asyncio
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Final
from urllib.error import HTTPError

import structlog

from features.errors import BadInputError, ConfigError
from features.events import NANO
from pipeline.sources.binance_decoder import BinanceDecoder
from pipeline.sources.binance_instruments import BinanceInstrument
from pipeline.sources.live.capture import FLUSH_S, ROTATE_S, Capture
from pipeline.sources.live.connection import Backoff, Connection, ConnectionConfig
from pipeline.sources.live.outlet import Outlet
from pipeline.sources.live.rate_limit import TokenBucket
from pipeline.sources.runs import Run

MAX_SNAPSHOT_BYTES: Final = 1 << 25

# Futures streams have two entries since 2026: what is frequent is at /public, the rest at /market.
WS_URLS: Final = {
    "spot": ("wss://stream.binance.com:9443", "wss://stream.binance.com:9443"),
    "usdm": ("wss://fstream.binance.com/public", "wss://fstream.binance.com/market"),
}
REST_URLS: Final = {
    "spot": "https://api.binance.com/api/v3/depth?limit=5000",
    "usdm": "https://fapi.binance.com/fapi/v1/depth?limit=1000",
}
FREQUENT: Final = ("depth@100ms", "trade", "bookTicker")
"""Streams of every symbol; those of futures have ``markPrice@1s`` beside them."""


@dataclass(frozen=True, slots=True)
class BinanceConfig:
    """What is followed, and where.

    Attributes:
        symbols: such as ``BTCUSDT``.
        market: ``usdm`` or ``spot``.
        ws_url: in place of the venue's own websocket entries, without ``/stream``.
        rest_url: in place of the venue's own depth endpoint; ``symbol`` is added to its query.
        capture: folder for raw messages, None for none.
        resnapshot_s: how often each whole book is sent again, in seconds of the venue's time.
        snapshots_per_s, snapshot_burst: how fast REST snapshots may be asked for.
        connection: how each connection is kept.
    """

    symbols: Sequence[str]
    market: str = "usdm"
    ws_url: str | None = None
    rest_url: str | None = None
    capture: Path | None = None
    rotate_s: float = ROTATE_S
    resnapshot_s: float = 30.0
    snapshots_per_s: float = 0.5
    snapshot_burst: int = 4
    rest_timeout_s: float = 10.0
    check_interval_s: float = 0.1
    seed: int = 0
    connection: ConnectionConfig = field(default_factory=ConnectionConfig)

    def streams(self, instrument: BinanceInstrument) -> list[tuple[str, tuple[str, ...]]]:
        """The base URLs to connect to for one symbol, with the streams of each."""
        public, market = (self.ws_url,) * 2 if self.ws_url else WS_URLS[instrument.market]
        mark = ("markPrice@1s",) if instrument.market == "usdm" else ()
        if public == market:
            return [(public, FREQUENT + mark)]
        return [(public, FREQUENT), (market, mark)]


class BinanceSymbol:
    """One symbol: its connections feed one decoder, and a REST snapshot follows whenever its diffs wait for one.

    A snapshot that cannot be had is asked for again, later and later; diffs are held meanwhile.
    """

    def __init__(
        self, instrument: BinanceInstrument, config: BinanceConfig, outlet: Outlet, snapshots: TokenBucket
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.instrument = instrument
        self._config = config
        self._outlet = outlet
        self._snapshots = snapshots
        self._decoder = BinanceDecoder(
            instrument, resnapshot_ns=round(config.resnapshot_s * NANO), source=0, counts=self.counts
        )
        prefix = f"{instrument.market}_{instrument.symbol.lower()}"
        self._capture = Capture(config.capture, prefix, config.rotate_s) if config.capture else None
        self._log = structlog.get_logger().bind(instrument=instrument.name)
        symbol = instrument.symbol.lower()
        self.connections = [
            Connection(
                f"{base}/stream?streams={'/'.join(f'{symbol}@{stream}' for stream in streams)}",
                self._take,
                config=config.connection,
                seed=config.seed + number,
            )
            for number, (base, streams) in enumerate(config.streams(instrument))
        ]

    @property
    def clock_offset_ns(self) -> int | None:
        """Our clock less the venue's, by this symbol's messages."""
        return self._decoder.clock.offset_ns

    async def run(self) -> None:
        """Follow the symbol until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for connection in self.connections:
                    tasks.create_task(connection.run())
                tasks.create_task(self._heal())
                tasks.create_task(self._flush())
        finally:
            if self._capture is not None:
                self._capture.close()

    def _take(self, message: bytes) -> None:
        self._outlet.take(message, self._decode, self.instrument.name, self._capture)

    def _decode(self, ts_recv: int, message: bytes) -> list[Run]:
        return self._decoder.feed(b"%d %s" % (ts_recv, message))

    async def _heal(self) -> None:
        """Ask for a snapshot whenever diffs wait for one."""
        backoff = Backoff(self._config.connection, self._config.seed)
        while True:
            await asyncio.sleep(self._config.check_interval_s)
            if not self._decoder.broken:
                backoff.reset()
                continue
            await self._snapshots.acquire()
            self.counts["snapshot_requests"] += 1
            try:
                snapshot = await asyncio.to_thread(self._fetch)
            except (OSError, HTTPException) as error:
                self.counts["snapshot_failed"] += 1
                wait_s = _retry_after_s(error)
                self._log.warning("no snapshot", detail=str(error) or type(error).__name__, wait_s=wait_s)
                await asyncio.sleep(wait_s)
            else:
                self._take(snapshot)
            if self._decoder.broken:
                await asyncio.sleep(next(backoff))

    def _fetch(self) -> bytes:
        base = self._config.rest_url or REST_URLS[self.instrument.market]
        url = f"{base}{'&' if '?' in base else '?'}symbol={self.instrument.symbol}"
        with urllib.request.urlopen(url, timeout=self._config.rest_timeout_s) as response:
            answer: bytes = response.read(MAX_SNAPSHOT_BYTES)
        return answer

    async def _flush(self) -> None:
        while self._capture is not None:
            await asyncio.sleep(FLUSH_S)
            self._capture.flush()


def _retry_after_s(error: Exception) -> float:
    """How long the venue wants us to wait; one that is asked on nevertheless bans the address."""
    if not isinstance(error, HTTPError):
        return 0.0
    told = error.headers.get("Retry-After", "0")
    return float(told) if told.isdecimal() else 0.0


class BinanceLive:
    """Follows symbols of one market of Binance.

    Args:
        config: what is followed, and where.
        outlet: takes the rows.

    Raises:
        ConfigError: no symbol, or a URL that is none.
        BadInputError: a symbol or market is unknown, or the capture's folder cannot be made.
    """

    def __init__(self, config: BinanceConfig, outlet: Outlet) -> None:
        if not config.symbols:
            raise ConfigError("No symbol was named.", "Name at least one, such as BTCUSDT.")
        if config.rest_url is not None and not config.rest_url.startswith(("http://", "https://")):
            raise ConfigError(f"{config.rest_url} is no REST URL.", "It begins with http:// or https://.")
        self._outlet = outlet
        snapshots = TokenBucket(config.snapshots_per_s, config.snapshot_burst)
        instruments = [BinanceInstrument.of(config.market, symbol) for symbol in dict.fromkeys(config.symbols)]
        if any(not instrument.symbol.isalnum() or not instrument.symbol.isascii() for instrument in instruments):
            raise BadInputError(f"{list(config.symbols)} holds no symbol.", "Symbols are letters and digits.")
        self.symbols = [BinanceSymbol(instrument, config, outlet, snapshots) for instrument in instruments]

    @property
    def counts(self) -> Counter[str]:
        """Of all symbols and connections."""
        total: Counter[str] = Counter()
        for symbol in self.symbols:
            total += symbol.counts
            for connection in symbol.connections:
                total += connection.counts
        return total

    @property
    def clock_offset_ns(self) -> int | None:
        """Our clock less the venue's, as estimated so far: of the symbol with the least latency."""
        known = (symbol.clock_offset_ns for symbol in self.symbols)
        return min((each for each in known if each is not None), default=None)

    async def run(self) -> None:
        """Follow until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for symbol in self.symbols:
                    tasks.create_task(symbol.run())
        finally:
            self._outlet.flush()
