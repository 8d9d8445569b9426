"""Portfolios and limits on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from features.errors import ConfigError
from hedger.limits import Limits
from hedger.portfolio import Portfolio, decode_portfolio

DEFAULT_LIMITS: Final = Limits(
    max_position={"BTC": 20.0, "ETH": 200.0},
    max_order_quantity={"BTC": 10.0, "ETH": 100.0},
    min_trade_quantity={"BTC": 0.001, "ETH": 0.01},
    max_gross_notional_usd=2_500_000.0,
    max_net_delta_usd=1_000_000.0,
    max_gamma_usd=50_000.0,
    max_vega_usd=10_000.0,
    max_loss_usd=250_000.0,
    max_orders_per_minute=240,
    price_collar_bps=50.0,
)
"""Twice what the demo's portfolio needs; a desk writes its own into ``limits`` (docs/configuration.md)."""


def read_portfolio(path: Path) -> Portfolio:
    """The portfolio in a JSON file.

    Raises:
        ConfigError: there is no such file.
        BadInputError: it holds no portfolio.
    """
    try:
        return decode_portfolio(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(
            f"There is no portfolio at {path}.", "See docs/configuration.md; or check --portfolio."
        ) from None


def read_limits(path: Path | None) -> Limits:
    """The limits in a JSON file; :data:`DEFAULT_LIMITS` without one.

    Raises:
        ConfigError: there is no such file, or a limit is missing, unknown or out of range.
    """
    if path is None:
        return DEFAULT_LIMITS
    try:
        values: dict[str, Any] = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        return Limits(**values)
    except FileNotFoundError:
        raise ConfigError(f"There are no limits at {path}.", "Check the setting `limits`.") from None
    except (msgspec.MsgspecError, TypeError) as error:
        raise ConfigError(f"{path} holds no limits: {error}.", "See docs/configuration.md.") from error
