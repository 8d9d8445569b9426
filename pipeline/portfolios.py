"""Portfolios on disk."""

from __future__ import annotations

from pathlib import Path

from features.errors import ConfigError
from hedger.portfolio import Portfolio, decode_portfolio


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
