"""Option quotes to an implied-volatility surface and its features.

The public names load their modules on first use, so importing the package compiles nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from features.surface.black import YEAR_NS, black_delta, black_gamma, black_price, black_vega
    from features.surface.chain import chain_features
    from features.surface.inversion import implied_volatility

__all__ = [
    "YEAR_NS",
    "black_delta",
    "black_gamma",
    "black_price",
    "black_vega",
    "chain_features",
    "implied_volatility",
]

_MODULE: Final = {"chain_features": "chain", "implied_volatility": "inversion"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE.get(name, 'black')}"), name)
