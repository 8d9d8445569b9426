"""Portfolios and limits on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from features.errors import ConfigError
from hedger.limits import Limits
from hedger.portfolio import Portfolio, decode_portfolio

DEFAULT_LIMITS: Final = Limits()
"""Room for the demo's portfolio; a desk writes its own (docs/configuration.md)."""


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
