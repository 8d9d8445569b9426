"""Deribit live: one websocket for lists of instruments, books, trades and tickers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from features.errors import ConfigError
from features.events import NANO
from pipeline.sources.deribit_decoder import DeribitDecoder
from pipeline.sources.deribit_messages import Envelope, Refusal
from pipeline.sources.deribit_selection import DeribitSelection
from pipeline.sources.live.capture import FLUSH_S, ROTATE_S, Capture
from pipeline.sources.live.connection import Connection, ConnectionConfig, VenueError
from pipeline.sources.live.outlet import Outlet

WS_URL: Final = "wss://www.deribit.com/ws/api/v2"
CHANNELS_A_REQUEST: Final = 200
HEARTBEAT_S: Final = 15
PASSING_REFUSALS: Final = {10_028, 10_040, 10_041, 11_051}
"""Too many requests, retry, settlement, maintenance: the same request later has a chance."""


@dataclass(frozen=True, slots=True)
class DeribitConfig:
    """What is followed, and where.

    Attributes:
        symbols: as :class:`.DeribitSelection` takes them.
        url: of the websocket.
        interval: ``100ms``, or ``raw``, for which the venue wants a login.
        option_books: whether books of options are followed beside their quotes.
        capture: folder for raw messages, None for none.
        resnapshot_s: how often each whole book is sent again, in seconds of the venue's time.
        retry_s: how long a subscription may take before it is asked for again.
        connection: how the connection is kept.
    """

    symbols: Sequence[str]
    url: str = WS_URL
    interval: str = "100ms"
    option_books: bool = True
    capture: Path | None = None
    rotate_s: float = ROTATE_S
    resnapshot_s: float = 30.0
    retry_s: float = 2.0
    check_interval_s: float = 0.1
    seed: int = 0
    connection: ConnectionConfig = field(default_factory=ConnectionConfig)


class DeribitLive:
    """Follows symbols of Deribit.

    On every connection: heartbeats, then the lists of instruments, then their channels. A book whose chain of ids broke
    is subscribed again, which brings a snapshot. Instruments of a followed chain that are listed later are added.

    Args:
        config: what is followed, and where.
        outlet: takes the rows.

    Raises:
        ConfigError: a symbol has no form of this venue's.
        CaptureError: the folder of the capture cannot be made.
    """

    def __init__(self, config: DeribitConfig, outlet: Outlet) -> None:
        self.selection = DeribitSelection(config.symbols)
        self._config = config
        self._outlet = outlet
        self._counts: Counter[str] = Counter()
        self._decoder = DeribitDecoder(
            resnapshot_ns=round(config.resnapshot_s * NANO),
            counts=self._counts,
            only=self.selection,
            on_control=self._control,
        )
        self._capture = Capture(config.capture, "deribit", config.rotate_s) if config.capture else None
        self._connection = Connection(
            config.url, self._take, on_open=self._open, config=config.connection, seed=config.seed
        )
        self._ids = count(1)
        self._requests: dict[int, tuple[str, dict[str, Any]]] = {}
        self._subscribed: set[str] = set()
        self._asked_at: dict[str, float] = {}
        self._complete = False
        self._log = structlog.get_logger().bind(venue="deribit")

    @property
    def counts(self) -> Counter[str]:
        """Of the connection, and what the decoder left out."""
        return self._counts + self._connection.counts

    @property
    def clock_offset_ns(self) -> int | None:
        """Our clock less the venue's, as estimated so far."""
        return self._decoder.clock.offset_ns

    async def run(self) -> None:
        """Follow until cancelled.

        Raises:
            ConfigError: the venue does not list a symbol.
            VenueError: it was never reached, or refuses what is asked for.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._connection.run())
                tasks.create_task(self._heal())
                tasks.create_task(self._flush())
        finally:
            self._outlet.flush()
            if self._capture is not None:
                self._capture.close()

    def _take(self, message: bytes) -> None:
        self._outlet.take(message, self._decoder.message, "deribit", self._capture)

    # -- requests ---------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._requests.clear()
        self._subscribed.clear()
        self._asked_at.clear()
        self._decoder.listing.listed.clear()  # what has expired meanwhile is not in the next lists
        self._request("public/set_heartbeat", interval=HEARTBEAT_S)
        for currency in self.selection.currencies:
            self._request("public/get_instruments", currency=currency, expired=False)

    def _request(self, method: str, **params: Any) -> None:
        number = next(self._ids)
        self._requests[number] = method, params
        body = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        self._connection.post(msgspec.json.encode(body))

    def _subscribe(self, channels: Iterable[str], method: str = "public/subscribe") -> None:
        wanted = list(channels)
        for start in range(0, len(wanted), CHANNELS_A_REQUEST):
            self._request(method, channels=wanted[start : start + CHANNELS_A_REQUEST])

    def _channels(self, symbol: str) -> list[str]:
        option = self._decoder.listing.listed[symbol].instrument_type == "option"
        kinds = ("trades", "ticker") if option and not self._config.option_books else ("book", "trades", "ticker")
        return [f"{kind}.{symbol}.{self._config.interval}" for kind in kinds]

    # -- answers ----------------------------------------------------------------------------------------------------

    def _control(self, message: Envelope) -> None:
        if message.method == "heartbeat":
            if message.params is not None and message.params.type == "test_request":
                self._request("public/test")
        elif message.method.startswith("instrument.state."):
            self._state_changed(message)
        elif isinstance(message.id, int) and message.id in self._requests:
            method, params = self._requests.pop(message.id)
            if message.error is not None:
                self._refused(method, params, message.error)
            elif method == "public/get_instruments":
                self._listed()

    def _listed(self) -> None:
        """Subscribe what is followed and not subscribed yet, once every list has come."""
        if any(method == "public/get_instruments" for method, _params in self._requests.values()):
            return
        listed = self._decoder.listing.listed
        missing = [name for name in self.selection.names if name not in listed]
        chosen = [symbol for symbol in listed if symbol in self.selection and symbol not in self._subscribed]
        if not self._complete and (missing or not chosen):
            named = ", ".join(missing or self._config.symbols)
            raise ConfigError(f"Deribit lists no {named}.", "Check --symbols; expired instruments are not listed.")
        self._complete = True
        self._subscribed.update(chosen)
        self._subscribe(channel for symbol in chosen for channel in self._channels(symbol))
        for head, group in self.selection.groups:
            currency = head.removesuffix("-").rpartition("_")[2]
            state = f"instrument.state.{group.removesuffix('s')}.{currency}"
            if state not in self._subscribed:
                self._subscribed.add(state)
                self._subscribe([state])

    def _state_changed(self, message: Envelope) -> None:
        """A new instrument of a followed chain: its terms are in the list."""
        self._counts["instrument_state"] += 1
        try:
            change = _STATE.decode(message.result)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        followed = change.instrument_name in self.selection and change.instrument_name not in self._subscribed
        asked = any(method == "public/get_instruments" for method, _params in self._requests.values())
        if followed and change.state in ("created", "started") and not asked:
            currency = message.method.rpartition(".")[2]
            self._request("public/get_instruments", currency=currency, expired=False)

    def _refused(self, method: str, params: dict[str, Any], refusal: Refusal) -> None:
        if refusal.code in PASSING_REFUSALS:
            self._counts["request_again"] += 1
            asyncio.get_running_loop().call_later(self._config.retry_s, lambda: self._request(method, **params))
        elif self._complete and method != "public/subscribe":
            self._log.warning("request refused", method=method, detail=refusal.message)
        else:
            raise VenueError(
                f"Deribit refuses {method}: {refusal.message} ({refusal.code}).", "Check --symbols and --interval."
            )

    # -- beside the messages ------------------------------------------------------------------------------------------

    async def _heal(self) -> None:
        """Subscribe broken books again; the answer is a snapshot."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._config.check_interval_s)
            now = loop.time()
            due = [
                channel
                for channel in self._decoder.broken
                if self._connection.is_open
                and channel.split(".")[1] in self._subscribed
                and now - self._asked_at.get(channel, -self._config.retry_s) >= self._config.retry_s
            ]
            if due:
                self._counts["resubscribed"] += len(due)
                self._asked_at.update(dict.fromkeys(due, now))
                self._subscribe(due, "public/unsubscribe")
                self._subscribe(due)

    async def _flush(self) -> None:
        while self._capture is not None:
            await asyncio.sleep(FLUSH_S)
            self._capture.flush()


class StateChange(msgspec.Struct, gc=False):
    """Of ``instrument.state.KIND.CURRENCY``."""

    instrument_name: str
    state: str


_STATE: Final = msgspec.json.Decoder(StateChange)
