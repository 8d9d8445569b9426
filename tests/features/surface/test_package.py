"""``features.surface``: its names are there, and importing it compiles nothing."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from importlib import import_module

import pytest

import features.surface


def test_every_public_name_is_found() -> None:
    from features.surface import black_price, implied_volatility
    from features.surface.inversion import implied_volatility as inverse

    assert implied_volatility is inverse
    assert float(implied_volatility(black_price(1.0, 1.0, 1.0, 0.5, True), 1.0, 1.0, 1.0, True)) == pytest.approx(0.5)
    # A module of a public name would hide it, once anything has imported the module.
    for module in pkgutil.iter_modules(features.surface.__path__):
        import_module(f"features.surface.{module.name}")
    for name in features.surface.__all__:
        assert callable(getattr(features.surface, name)) or name == "YEAR_NS"
        assert getattr(features.surface, name).__doc__ or name == "YEAR_NS"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"features\.surface.*'blakc_price'"):
        _ = features.surface.blakc_price


def test_the_import_is_light() -> None:
    program = "import sys, features.surface; print([m for m in ('numba', 'numpy', 'polars') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
