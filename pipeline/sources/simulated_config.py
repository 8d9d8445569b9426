"""What can be set about the simulated exchange."""

from __future__ import annotations

from dataclasses import dataclass

from features.errors import ConfigError
from features.events import NANO
from pipeline.sources.simulated_instruments import LISTED
from pipeline.sources.simulated_options import EXPIRY_DAYS
from pipeline.sources.simulated_regimes import CALM, ILLIQUID, STRESSED, Regimes

MAX_DEPTH_LEVELS = 200
"""A tick's depth event and a snapshot then still fit into one message of the log."""


@dataclass(frozen=True, slots=True)
class SimulationConfig:
    """A run of the simulated exchange; equal settings give equal events, to the bit.

    Args:
        minutes: how long, in simulated time.
        seed: of every random draw.
        start_ns: a whole second, UTC.
        tick_ms: time between two depth events of a book; divides a second.
        depth_levels: price levels a side.
        underlyings: which of ``BTC`` and ``ETH``.
        regimes: what calm, stressed and illiquid mean, in order of their volatility.
        snapshot_interval_s: time between two full snapshots of a book.
        funding_interval_s: time between two funding events.
        block_s: how much is simulated at once; the events do not depend on it.

    Raises:
        ConfigError: a value is out of range.
    """

    minutes: float = 20.0
    seed: int = 0
    start_ns: int = 1_767_571_200 * NANO  # 2026-01-05T00:00Z
    tick_ms: int = 100
    depth_levels: int = 50
    underlyings: tuple[str, ...] = ("BTC", "ETH")
    regimes: Regimes = (CALM, STRESSED, ILLIQUID)
    snapshot_interval_s: int = 30
    funding_interval_s: int = 10
    block_s: int = 10

    def __post_init__(self) -> None:
        longest = EXPIRY_DAYS[0] * 24 * 60
        _require(1 / 60 <= self.minutes <= longest, "minutes", self.minutes, f"1/60 to {longest}: then options expire")
        _require(self.seed >= 0, "seed", self.seed, "a number that is not negative")
        _require(self.start_ns > 0 and self.start_ns % NANO == 0, "start_ns", self.start_ns, "a whole second")
        _require(
            10 <= self.tick_ms <= 1_000 and 1_000 % self.tick_ms == 0,
            "tick_ms",
            self.tick_ms,
            "a divisor of 1000 from 10",
        )
        _require(5 <= self.depth_levels <= MAX_DEPTH_LEVELS, "depth_levels", self.depth_levels, "5 to 200")
        known = set(self.underlyings) <= set(LISTED) and len(set(self.underlyings)) == len(self.underlyings) > 0
        _require(known, "underlyings", self.underlyings, f"some of {', '.join(LISTED)}, each once")
        volatility = [regime.volatility for regime in self.regimes]
        _require(0 < volatility[0] < volatility[1] < volatility[2], "volatility", volatility, "one that rises")
        for name in ("snapshot_interval_s", "funding_interval_s", "block_s"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")

    @property
    def seconds(self) -> int:
        """Length of the run: its bars of one second."""
        return round(self.minutes * 60)

    @property
    def ticks_per_s(self) -> int:
        """Depth events a second."""
        return 1_000 // self.tick_ms


def _require(holds: bool, name: str, value: object, allowed: str) -> None:
    if not holds:
        raise ConfigError(f"The simulation's {name} is {value!r}.", f"Use {allowed}.")
