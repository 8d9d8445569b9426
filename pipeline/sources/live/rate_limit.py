"""How fast requests may go out."""

from __future__ import annotations

import asyncio

from features.errors import ConfigError


class TokenBucket:
    """At most ``burst`` requests at once and ``rate_per_s`` in the long run; who comes too early waits, in order.

    Args:
        rate_per_s: tokens that come back in a second.
        burst: tokens that the bucket holds; it starts full.

    Raises:
        ConfigError: one of them is not positive.
    """

    def __init__(self, rate_per_s: float, burst: int) -> None:
        if rate_per_s <= 0 or burst < 1:
            raise ConfigError(
                f"A rate of {rate_per_s} requests a second with bursts of {burst} lets nothing through.",
                "Give positive numbers.",
            )
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._tokens = float(burst)
        self._at_s: float | None = None

    def reserve(self, now_s: float) -> float:
        """Take a token; how many seconds from ``now_s`` on the request has to wait for it."""
        if self._at_s is not None:
            self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self._rate_per_s)
        self._at_s = now_s
        self._tokens -= 1.0
        return max(0.0, -self._tokens / self._rate_per_s)

    async def acquire(self) -> None:
        """Wait until the next request may go."""
        wait_s = self.reserve(asyncio.get_running_loop().time())
        if wait_s:
            await asyncio.sleep(wait_s)
