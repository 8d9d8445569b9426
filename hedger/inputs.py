"""Everything that may change a decision: the rows of the log ``decisions.inputs``, which is appended to first.

Each input has an ``input_id``, given by whoever appends it and the same when it is appended again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from features.errors import BadInputError
from features.signals import SCHEMA
from hedger.portfolio import Portfolio


class SignalInput(msgspec.Struct, frozen=True, kw_only=True, tag="signal"):
    """A row of ``features.signals.SCHEMA``: what one underlying's market was at the end of a bar."""

    input_id: str
    underlying: str
    instrument: str
    bar_ts: int
    ts_known: int
    version: str
    book_valid: bool
    best_bid: float | None = None
    best_ask: float | None = None
    mid: float | None = None
    bid_depth_10bps: float | None = None
    ask_depth_10bps: float | None = None
    atm_iv_30d: float | None = None
    surface_age_s: float | None = None
    realized_variance_1m: float | None = None
    posterior_0: float | None = None
    posterior_1: float | None = None
    posterior_2: float | None = None
    regime: int | None = None
    kmeans_regime: int | None = None
    forecast_variance: float | None = None
    har_variance: float | None = None
    forecast_horizon_s: float | None = None


class FillInput(msgspec.Struct, frozen=True, kw_only=True, tag="fill"):
    """An order traded, wholly or in part.

    Attributes:
        quantity: coins; positive bought.
        price: USD.
        fee_usd: paid.
        bar_ts: stream time of the trade, ns UTC; of a bar if the gateway fills bar by bar.
    """

    input_id: str
    order_id: str
    decision_id: str
    underlying: str
    instrument: str
    quantity: float
    price: float
    fee_usd: float
    bar_ts: int


class CancelInput(msgspec.Struct, frozen=True, kw_only=True, tag="cancel"):
    """What was left of an order will not trade any more."""

    input_id: str
    order_id: str
    bar_ts: int
    reason: str


class KillInput(msgspec.Struct, frozen=True, kw_only=True, tag="kill"):
    """The kill switch: no order any more, outstanding ones are to be cancelled. A decision at once."""

    input_id: str
    reason: str
    by: str


class FlattenInput(msgspec.Struct, frozen=True, kw_only=True, tag="flatten"):
    """A person orders the hedge positions closed, and nothing else traded until that is released."""

    input_id: str
    reason: str
    by: str


class ReleaseInput(msgspec.Struct, frozen=True, kw_only=True, tag="release"):
    """A person takes back a kill or a flatten."""

    input_id: str
    reason: str
    by: str
    releases: Literal["kill", "flatten"] = "kill"


class PortfolioInput(msgspec.Struct, frozen=True, kw_only=True, tag="portfolio"):
    """The portfolio holds other options from the next decision on; hedge positions stay."""

    input_id: str
    portfolio: Portfolio
    by: str = ""


class ModelInput(msgspec.Struct, frozen=True, kw_only=True, tag="model"):
    """From a bar beyond the last decided one, another policy decides.

    Attributes:
        version: of the policy; ``None`` retires it without a successor, as after a drift alarm.
        active_from_bar_ts: its first bar, ns UTC.
    """

    input_id: str
    version: str | None
    active_from_bar_ts: int


class TimerInput(msgspec.Struct, frozen=True, kw_only=True, tag="timer"):
    """Time passed, though perhaps no bar came.

    Attributes:
        ts: stream time now, ns UTC, as the shell knows it: live, its clock less the feed's latency. A replay that is
            faster than the clock must not put wall time here, or every bar counts as stale.
    """

    input_id: str
    ts: int


class ActivateInput(msgspec.Struct, frozen=True, kw_only=True, tag="activate"):
    """Decisions are made from this bar (ns UTC) on; before, the market is only watched."""

    input_id: str
    active_from_bar_ts: int


Input = (
    SignalInput
    | FillInput
    | CancelInput
    | KillInput
    | FlattenInput
    | ReleaseInput
    | PortfolioInput
    | ModelInput
    | TimerInput
    | ActivateInput
)

_encoder: Final = msgspec.json.Encoder()
_decoder: Final[msgspec.json.Decoder[Input]] = msgspec.json.Decoder(Input)


def encode_input(item: Input) -> bytes:
    """As JSON, floats in full precision."""
    return _encoder.encode(item)


def decode_input(document: bytes | str) -> Input:
    """The inverse of :func:`encode_input`.

    Raises:
        BadInputError: it is no input.
    """
    try:
        return _decoder.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInputError(f"A decision input cannot be read: {error}.", "It goes to the dead letters.") from error


def signal_input(row: Mapping[str, Any]) -> SignalInput:
    """Make an input of a row of the signals table; NaN becomes ``None``, further columns are left out.

    Raises:
        BadInputError: the row does not have the types of ``features.signals.SCHEMA``.
    """
    known = {name: value for name in SCHEMA.names if (value := row.get(name)) == value}
    known["input_id"] = f"signal:{known.get('underlying')}:{known.get('bar_ts')}"
    try:
        return msgspec.convert(known, SignalInput)
    except msgspec.ValidationError as error:
        raise BadInputError(f"A signals row does not fit its schema: {error}.", "See features/signals.py.") from error
