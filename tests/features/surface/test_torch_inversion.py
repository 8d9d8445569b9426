"""Implied volatility on tensors: what the kernel finds, and where the kernel cannot, what 60 digits say."""

from __future__ import annotations

import math
import subprocess
import sys

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from features.surface.black import black_price
from features.surface.inversion import implied_volatility
from features.surface.torch_inversion import implied_volatility_torch

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def found_on(device: str, *columns: np.ndarray | float | bool) -> np.ndarray:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    tensors = [torch.from_numpy(each).to(device) if isinstance(each, np.ndarray) else each for each in columns]
    found = implied_volatility_torch(*tensors)
    assert found.device.type == device
    return found.cpu().numpy()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("most", "years", "sigma", "error"),
    [
        (0.5, (0.02, 2), (0.1, 1.5), 1e-11),
        (0.7, (2 / 365, 2), (0.1, 2), 1e-9),
        (0.7, (2 / 365, 2), (0.05, 3), 1e-9),
        (0.02, (1e-5, 1e-3), (0.05, 3), 1e-9),
    ],
    ids=["easy", "hard", "harder", "last hours"],
)
def test_it_agrees_with_the_kernel(
    device: str, most: float, years: tuple[float, float], sigma: tuple[float, float], error: float
) -> None:
    rng, n = np.random.default_rng(3), 50_000
    moneyness, expiry, volatility = rng.uniform(-most, most, n), rng.uniform(*years, n), rng.uniform(*sigma, n)
    strike, is_call = 5e4 * np.exp(moneyness), moneyness > 0
    price = black_price(5e4, strike, expiry, volatility, is_call)
    expected = implied_volatility(price, 5e4, strike, expiry, is_call)
    found = found_on(device, price, 5e4, strike, expiry, is_call)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    alive = price > 1e-280
    assert alive.mean() > 0.9
    assert np.abs(found - expected)[alive].max() <= error
    assert np.abs(found - volatility)[alive].max() <= error


@pytest.mark.parametrize("device", DEVICES)
def test_in_the_money_it_agrees_with_the_kernel(device: str) -> None:
    """Both take the time value from the price as it is rounded, so they agree where neither knows the volatility."""
    rng, n = np.random.default_rng(4), 50_000
    moneyness, is_call = rng.uniform(-0.3, 0.3, n), rng.random(n) < 0.5
    strike = 5e4 * np.exp(moneyness)
    price = black_price(5e4, strike, 0.1, rng.uniform(0.3, 1.5, n), is_call)
    expected = implied_volatility(price, 5e4, strike, 0.1, is_call)
    found = found_on(device, price, 5e4, strike, 0.1, is_call)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_allclose(found, expected, rtol=1e-11)


@pytest.mark.parametrize("log_moneyness", [0.0, 1e-9, 1e-4, 0.03, 0.5, 2.0, 20.0, 300.0, 690.0])
@pytest.mark.parametrize("share", [1e-300, 1e-100, 1e-20, 1e-8, 0.01, 0.3, 0.5, 0.7, 1 - 1e-6, 1 - 2**-50])
def test_far_out_it_is_right_to_the_rounding_of_its_inputs(share: float, log_moneyness: float) -> None:
    strike = math.exp(log_moneyness)
    s = float(implied_volatility_torch(torch.tensor(share, dtype=torch.float64), 1.0, strike, 1.0, True))
    with mpmath.workdps(700):
        m = mpmath.log(mpmath.mpf(strike))
        d1 = mpmath.mpf(s) / 2 - m / s
        gap = (mpmath.ncdf(d1) - mpmath.exp(m) * mpmath.ncdf(d1 - s)) - mpmath.mpf(share)
        off = float(gap / mpmath.npdf(d1))
        # A last place of the price, of K / F, and of s itself.
        eps = 2.3e-16
        allowed = float(eps * (share + mpmath.exp(m) * mpmath.ncdf(d1 - s)) / mpmath.npdf(d1)) + eps * s
    assert abs(off) <= 8.0 * allowed


@given(share=st.floats(1e-12, 0.999), moneyness=st.floats(-3, 3), years=st.floats(1e-4, 5), is_call=st.booleans())
def test_a_price_comes_back(share: float, moneyness: float, years: float, is_call: bool) -> None:
    strike = 100.0 * math.exp(moneyness)
    intrinsic = max(100.0 - strike, 0.0) if is_call else max(strike - 100.0, 0.0)
    price = intrinsic + share * min(100.0, strike)
    found = float(implied_volatility_torch(torch.tensor(price, dtype=torch.float64), 100.0, strike, years, is_call))
    if price > intrinsic:
        again = float(black_price(100.0, strike, years, found, is_call))
        assert again == pytest.approx(price, rel=1e-12, abs=1e-13 * (100.0 + strike))


@pytest.mark.parametrize("device", DEVICES)
def test_no_volatility_gives_these_prices(device: str) -> None:
    rows = [
        (0.0, 100.0, 110.0, 1.0, True),
        (-1.0, 100.0, 110.0, 1.0, True),
        (9.99, 100.0, 90.0, 1.0, True),
        (10.0, 100.0, 90.0, 1.0, True),
        (10.0, 90.0, 100.0, 1.0, False),
        (100.0, 100.0, 110.0, 1.0, True),
        (90.0, 100.0, 90.0, 1.0, False),
        (math.inf, 100.0, 90.0, 1.0, True),
        (1e-310, 100.0, 110.0, 1.0, True),
        (5.0, 0.0, 110.0, 1.0, True),
        (5.0, 100.0, -1.0, 1.0, True),
        (5.0, 100.0, 110.0, 0.0, True),
        (math.nan, 100.0, 110.0, 1.0, True),
        (5.0, math.nan, 110.0, 1.0, True),
        (5.0, math.inf, 110.0, 1.0, False),
        (5.0, 100.0, 110.0, math.nan, True),
    ]
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    assert np.isnan(implied_volatility(*columns)).all()
    assert np.isnan(found_on(device, *columns)).all()


def test_shapes_broadcast_and_single_numbers_are_taken() -> None:
    strike = torch.tensor([[90.0], [110.0]], dtype=torch.float64)
    found = implied_volatility_torch(
        torch.tensor([12.0, 13.0, 14.0]), 100.0, strike, 0.5, torch.tensor([[True], [True]])
    )
    assert found.shape == (2, 3)
    np.testing.assert_allclose(
        found, implied_volatility([12.0, 13.0, 14.0], 100.0, strike.numpy(), 0.5, True), rtol=1e-13
    )
    assert float(implied_volatility_torch(5.0, 100.0, 100.0, 1.0, True)) == pytest.approx(
        float(implied_volatility(5.0, 100.0, 100.0, 1.0, True)), rel=1e-14
    )
    either = implied_volatility_torch(15.0, 100.0, 100.0, 1.0, torch.tensor([[True], [False]]))
    assert either.shape == (2, 1)
    assert float(either[0, 0]) == float(either[1, 0])
    assert implied_volatility_torch(torch.zeros(0), 1.0, 1.0, 1.0, True).shape == (0,)


def test_single_precision_has_its_own_digits() -> None:
    strike = np.linspace(70.0, 140.0, 29)
    is_call = strike >= 100.0
    price = torch.from_numpy(black_price(100.0, strike, 0.25, 0.6, is_call))
    found = implied_volatility_torch(
        price, 100.0, torch.from_numpy(strike), 0.25, torch.from_numpy(is_call), dtype=torch.float32
    )
    assert found.dtype == torch.float32
    assert float((found - 0.6).abs().max()) < 1e-5


def test_no_gradient_is_promised() -> None:
    price = torch.tensor([5.0], dtype=torch.float64, requires_grad=True)
    assert not implied_volatility_torch(price, 100.0, 100.0, 1.0, True).requires_grad


def test_nothing_else_of_the_surface_needs_torch() -> None:
    program = (
        "import sys, features.surface as s; names = [getattr(s, name) for name in s.__all__]; "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
