"""One option chain at a time, as the surface takes it: from recorded Deribit chains, or from a lake.

A chain is what was known at a moment: of a recording the last snapshot at or before it, of a lake the last quote of
every option that was received by then. Prices are in quote currency and undiscounted, whatever they were quoted in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from features.errors import BadInputError, ConfigError
from features.events import NANO
from features.surface.cleaning import CleaningRules, Points, clean, counts_of
from features.surface.forwards import parity_forward
from pipeline.lake_location import LakeLocation, Place

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class OptionChain:
    """All options on one underlying; arrays of one length.

    Args:
        underlying: such as BTC.
        now_ns: when its newest quote was made, ns since 1970 UTC: times to expiry and ages count from it.
        expiry_ns: ns since 1970 UTC.
        strike: in quote currency.
        is_call: call or put.
        bid, ask: undiscounted, in quote currency; NaN for none.
        forward: of the option's expiry, in quote currency; NaN for unknown.
        quoted_ns: when the quote was made.
        mark_volatility: what the venue says, 1 / sqrt(year); NaN for unknown.
    """

    underlying: str
    now_ns: int
    expiry_ns: Array
    strike: Array
    is_call: Array
    bid: Array
    ask: Array
    forward: Array
    quoted_ns: Array
    mark_volatility: Array

    def __len__(self) -> int:
        """How many options it has."""
        return len(self.strike)

    def points(self, rules: CleaningRules = CleaningRules()) -> Points:
        """The quotes that a surface is fitted to.

        Raises:
            BadInputError: there are none.
        """
        columns = (self.expiry_ns, self.strike, self.is_call, self.bid, self.ask, self.forward, self.quoted_ns)
        points = clean(*columns, self.now_ns, rules)
        if not len(points.k_Q):
            counts = sorted(counts_of(points).items(), key=lambda each: -each[1])
            why = ", ".join(f"{rule.replace('_', ' ')} {count:,}" for rule, count in counts)
            raise BadInputError(
                f"No quote of the {len(self):,} options on {self.underlying} at {utc(self.now_ns)} can be used: "
                f"{why or 'there are none'}.",
                _REMEDIES.get(counts[0][0] if counts else "", "Name another chain: --at TIME."),
            )
        return points


_REMEDIES: Final = {
    "no_strike": "Their strikes are no positive numbers: see the file.",
    "expired": "Their expiries lie before the chain's time: name an earlier one, --at TIME, or see the file's times.",
    "no_forward": "Give forwards; or calls and puts of the same strikes, whose parity tells them.",
    "stale": "Their last quotes are too old: name another chain, --at TIME.",
    "no_bid": "Only quotes with a bid and an ask are used: name another chain, --at TIME.",
    "no_ask": "Only quotes with a bid and an ask are used: name another chain, --at TIME.",
    "crossed": "Their bids are above their asks: see whether the two columns are exchanged.",
    "in_the_money": "Only options out of the money are used: see the forwards, and whether calls are called puts.",
    "below_intrinsic": "No volatility gives their prices: see whether those are in coin or in quote currency.",
    "wide": "Their bids and asks are too far apart to say anything: name another chain, --at TIME.",
}
"""Of chains none of whose quotes can be used, by what most of them lack."""


def read_chain(place: Place, underlying: str | None = None, at_ns: int | None = None) -> OptionChain:
    """The last chain at or before a time.

    Args:
        place: a Parquet file of recorded Deribit chains, the folder of a lake or of its table of options, or a URL.
        underlying: may be left out where there is one only.
        at_ns: ns since 1970 UTC; the newest chain without it. Of a lake, what was received by then counts.

    Raises:
        BadInputError: there is no such file, it holds no chains, or none that early.
        ConfigError: there is no such underlying; or there are several, and none is named.
        LakeError: there is no lake, or it cannot be read.
    """
    from pipeline.option_chains_lake import lake_chain
    from pipeline.option_chains_recorded import recorded_chain

    location = LakeLocation.of(place)
    if location.remote:
        return lake_chain(location, underlying, at_ns)
    path = Path(location)
    if path.is_dir():
        if (path / "_delta_log").is_dir():
            # A table of a lake: its quotes need the others' reference data.
            return lake_chain(LakeLocation.of(path.parent), underlying, at_ns)
        if (path / "lake").is_dir() and not (path / "options").is_dir():
            raise BadInputError(f"{path} is no lake.", f"Name the one in it: {path / 'lake'}.")
        if recordings := sorted(path.glob("*.parquet")):
            raise BadInputError(f"{path} is a folder of files.", f"Name one of them, such as {recordings[-1]}.")
        return lake_chain(location, underlying, at_ns)
    return recorded_chain(path, underlying, at_ns)


def chosen(underlying: str | None, present: list[str], place: Place) -> str:
    """The underlying that is meant.

    Args:
        underlying: what was asked for, if anything.
        present: those that there are.
        place: where.

    Raises:
        BadInputError: there is none at all.
        ConfigError: there is no such one; or there are several, and none is named.
    """
    if not present:
        raise BadInputError(f"{place} holds no option quotes.", "Name a place that does.")
    names = ", ".join(sorted(present))
    if underlying is None:
        if len(present) > 1:
            raise ConfigError(f"{place} holds options on {names}.", "Say which: --underlying NAME.")
        return present[0]
    if underlying not in present and underlying.upper() in present:
        return underlying.upper()
    if underlying not in present:
        raise ConfigError(f"{place} holds no options on {underlying!r}.", f"It has {names}.")
    return underlying


def none_so_early(place: Place, underlying: str, at_ns: int, first_ns: int) -> BadInputError:
    """The error of a time before the first chain."""
    return BadInputError(
        f"{place} holds no chain of {underlying} by {utc(at_ns)}.",
        f"The first is of {utc(first_ns)}: name a later --at.",
    )


def with_parity_forwards(chain: OptionChain, is_inverse: Array) -> OptionChain:
    """The chain with forwards by put-call parity where the feed has none, and its prices there undiscounted.

    Args:
        chain: with NaN for the forwards that are missing, and the prices of their options as quoted, in coin where
            they are inverse; all other prices in quote currency.
        is_inverse: of every option.
    """
    missing = ~is_forward(chain.forward)
    if not missing.any():
        return chain
    forward, bid, ask = chain.forward.copy(), chain.bid.copy(), chain.ask.copy()
    for expiry, inverse in sorted(
        set(zip(chain.expiry_ns[missing].tolist(), is_inverse[missing].tolist(), strict=True))
    ):
        of = missing & (chain.expiry_ns == expiry) & (is_inverse == inverse)
        found = parity_forward(chain.strike[of], chain.is_call[of], bid[of], ask[of], is_inverse=inverse)
        forward[of] = found.forward
        unit = (found.forward if inverse else 1.0) / found.discount
        bid[of] *= unit
        ask[of] *= unit
    return replace(chain, forward=forward, bid=bid, ask=ask)


def is_forward(forward: Array) -> Array:
    """Whether each is a forward: a positive number."""
    found: Array = np.isfinite(forward) & (forward > 0.0)
    return found


OFF_PARITY: Final = 0.01
"""Of a forward, off that by put-call parity, that is worth a warning: recorded ones are within a quarter per cent."""
_PAIRS: Final = 4


def forwards_off_parity(chain: OptionChain) -> list[tuple[int, float]]:
    """Expiries whose forward their own calls and puts contradict, with the share by which it is off; worst first."""
    found = []
    for expiry in np.unique(chain.expiry_ns[is_forward(chain.forward) & (chain.expiry_ns > chain.now_ns)]).tolist():
        of = (chain.expiry_ns == expiry) & is_forward(chain.forward)
        parity = parity_forward(chain.strike[of], chain.is_call[of], chain.bid[of], chain.ask[of])
        forward = float(np.median(chain.forward[of]))
        if parity.pairs >= _PAIRS and abs(forward / parity.forward - 1.0) > OFF_PARITY:
            found.append((int(expiry), forward / parity.forward - 1.0))
    return sorted(found, key=lambda each: -abs(each[1]))


def utc(time_ns: int) -> str:
    """To the second.

    >>> utc(1_770_000_000_123_456_789)
    '2026-02-02 02:40:00 UTC'
    """
    return f"{datetime.fromtimestamp(time_ns // NANO, UTC):%Y-%m-%d %H:%M:%S} UTC"
