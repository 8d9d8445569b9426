"""Option quotes to an implied-volatility surface and its features.

The public names load their modules on first use, so importing the package compiles nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from features.surface.arbitrage import ArbitrageReport, check_arbitrage
    from features.surface.black import YEAR_NS, black_delta, black_gamma, black_price, black_vega
    from features.surface.chain_surface import ChainSurface, StreamedSurface, fit_streamed
    from features.surface.cleaning import CleaningRules, Points, Rule, clean, counts_of, points_of_volatilities
    from features.surface.conversions import (
        coin_price,
        discounted,
        discounted_delta,
        log_moneyness,
        premium_adjusted_delta,
        quote_price,
        strike_for_delta,
        strike_for_inverse_delta,
        strike_of,
        total_variance,
        undiscounted,
        variance_from_days,
        volatility_of,
        years_between,
        years_of,
    )
    from features.surface.essvi_surface import ESSVISurface, fit_essvi
    from features.surface.forwards import parity_forward
    from features.surface.greeks import black_theta, black_vanna, black_volga, inverse_delta
    from features.surface.heston import Heston, fit_heston, heston_price
    from features.surface.inversion import implied_volatility
    from features.surface.model import FitReport, SliceSurface, Smile, Surface
    from features.surface.model_features import surface_features
    from features.surface.nonparametric import fit_nonparametric
    from features.surface.quote_arbitrage import check_quotes
    from features.surface.repair import Repair, repair_arbitrage
    from features.surface.sabr import SABR, fit_sabr, sabr_volatility
    from features.surface.svi import SVI
    from features.surface.svi_fit import fit_svi

_MODULES: Final = {
    "arbitrage": ("ArbitrageReport", "check_arbitrage"),
    "black": ("YEAR_NS", "black_delta", "black_gamma", "black_price", "black_vega"),
    "chain_surface": ("ChainSurface", "StreamedSurface", "fit_streamed"),
    "cleaning": ("CleaningRules", "Points", "Rule", "clean", "counts_of", "points_of_volatilities"),
    "conversions": (
        "coin_price",
        "discounted",
        "discounted_delta",
        "log_moneyness",
        "premium_adjusted_delta",
        "quote_price",
        "strike_for_delta",
        "strike_for_inverse_delta",
        "strike_of",
        "total_variance",
        "undiscounted",
        "variance_from_days",
        "volatility_of",
        "years_between",
        "years_of",
    ),
    "essvi_surface": ("ESSVISurface", "fit_essvi"),
    "forwards": ("parity_forward",),
    "greeks": ("black_theta", "black_vanna", "black_volga", "inverse_delta"),
    "heston": ("Heston", "fit_heston", "heston_price"),
    "inversion": ("implied_volatility",),
    "model": ("FitReport", "SliceSurface", "Smile", "Surface"),
    "model_features": ("surface_features",),
    "nonparametric": ("fit_nonparametric",),
    "quote_arbitrage": ("check_quotes",),
    "repair": ("Repair", "repair_arbitrage"),
    "sabr": ("SABR", "fit_sabr", "sabr_volatility"),
    "svi": ("SVI",),
    "svi_fit": ("fit_svi",),
}
_MODULE: Final = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "SABR",
    "SVI",
    "YEAR_NS",
    "ArbitrageReport",
    "ChainSurface",
    "CleaningRules",
    "ESSVISurface",
    "FitReport",
    "Heston",
    "Points",
    "Repair",
    "Rule",
    "SliceSurface",
    "Smile",
    "StreamedSurface",
    "Surface",
    "black_delta",
    "black_gamma",
    "black_price",
    "black_theta",
    "black_vanna",
    "black_vega",
    "black_volga",
    "check_arbitrage",
    "check_quotes",
    "clean",
    "coin_price",
    "counts_of",
    "discounted",
    "discounted_delta",
    "fit_essvi",
    "fit_heston",
    "fit_nonparametric",
    "fit_sabr",
    "fit_streamed",
    "fit_svi",
    "heston_price",
    "implied_volatility",
    "inverse_delta",
    "log_moneyness",
    "parity_forward",
    "points_of_volatilities",
    "premium_adjusted_delta",
    "quote_price",
    "repair_arbitrage",
    "sabr_volatility",
    "strike_for_delta",
    "strike_for_inverse_delta",
    "strike_of",
    "surface_features",
    "total_variance",
    "undiscounted",
    "variance_from_days",
    "volatility_of",
    "years_between",
    "years_of",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE[name]}"), name)
