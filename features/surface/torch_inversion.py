r"""Implied volatility of many options at once on tensors, on a CPU or a GPU: the twin of
:mod:`features.surface.inversion`. Nothing else of ``features`` needs torch; it is loaded with this module only.

Every option takes the same few Halley steps, and masks stand where the kernel branches. With m = |log(K / F)|,
s = volatility sqrt(T), d1, d2 = -m / s +- s / 2 and Mills' ratio R(x) = N(-x) / n(x) = sqrt(pi / 2) erfcx(x / sqrt(2)),
the out-of-the-money price as a share of min(F, K) is, since e^m n(d2) = n(d1),

    b = N(d1) - e^m N(d2) = n(d1) (R(-d1) - R(-d2)).

Below one half the iteration solves log(b), which is known however small b is; above it -log(1 - b), where
1 - b = n(d1) (R(d1) + R(-d2)) (after Jaeckel 2015, "Let's be rational", sec. 4). Neither underflows, and both are close
to what a start can be computed from, so that the third step is exact for all that is quoted.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from features.surface.inversion import MAX_LOG_RATIO

STEPS: Final = 4
"""Halley steps of every option: three for all that is quoted, one more for the ends of what a price can be."""

_MODEL_STEPS: Final = 2
_LARGEST_DEVIATION: Final = 60.0
"""Above that of any price below its bound, also of the largest |log(K / F)|."""
_SETTLED: Final = 1e-6
"""A Halley step of this relative size leaves an error of its cube: no further step is needed."""
_SQRT_HALF: Final = math.sqrt(0.5)
_SQRT_2PI: Final = math.sqrt(2.0 * math.pi)
_LOG_SQRT_2PI: Final = 0.5 * math.log(2.0 * math.pi)
_SQRT_PI_OVER_2: Final = math.sqrt(0.5 * math.pi)


def _mills(x: Tensor) -> Tensor:
    """N(-x) / n(x), of x >= 0."""
    found: Tensor = torch.special.erfcx(_SQRT_HALF * x)
    return _SQRT_PI_OVER_2 * found


def _first_deviation(share: Tensor, m: Tensor) -> Tensor:
    """Start of the iteration, from the inflection s^2 = 2 m of the price or from its ends.

    - Below the inflection: with z = log(2 m / s^2), log(b) falls by m (e^z - 1) / 4 + a z. The first term is its growth
      -m^2 / (2 s^2) for small s, and a gives it the right slope at the inflection. Newton's method solves this convex
      equation from above.
    - Above it a Newton step.
    - Above one half 1 - b is nearly, and at most, 2 N(-d1); at the money they are equal.
    """
    inflection = (2.0 * m).sqrt()
    at_inflection = 0.5 - 0.5 * torch.special.erfcx(m.sqrt())
    fall = (at_inflection / share).log().clamp(min=0.0)
    quarter = 0.25 * m
    a = (0.5 * inflection / (_SQRT_2PI * at_inflection) - quarter).clamp(min=0.1)
    z = torch.minimum(fall / a, (fall / quarter).log1p())
    for _ in range(_MODEL_STEPS):
        grown = quarter * z.exp()
        z = z - (grown - quarter + a * z - fall) / (grown + a)
    below = inflection * (-0.5 * z).exp()
    above = inflection + (share - at_inflection) * _SQRT_2PI
    d1 = -torch.special.ndtri(0.5 - 0.5 * share)
    high = d1 + (d1 * d1 + 2.0 * m).sqrt()
    return torch.where(share < at_inflection, below, torch.where(share < 0.5, above, high))


def _level_and_slope(deviation: Tensor, d1: Tensor, m: Tensor, is_high: Tensor) -> tuple[Tensor, Tensor]:
    """log(b), or -log(1 - b) where it ``is_high``, and its derivative by the deviation."""
    near, far = _mills(d1.abs()), _mills(deviation - d1)
    log_density = -0.5 * d1 * d1 - _LOG_SQRT_2PI
    density = log_density.exp()
    # Of d1 > 0: no difference of what is nearly equal, as N(d1) and e^m N(d2) are for small s.
    central = 0.5 * (torch.erf(_SQRT_HALF * d1) + torch.erf(_SQRT_HALF * (deviation - d1)))
    central = central + torch.expm1(-m) * density * far
    tail = d1 < 0.0
    log_share = torch.where(tail, log_density + (near - far).log(), central.log())
    slope = torch.where(tail, 1.0 / (near - far), density / central)
    log_rest = torch.where(tail, (-torch.expm1(log_share)).log(), log_density + (near + far).log())
    rest_slope = (log_density - log_rest).exp()
    return torch.where(is_high, -log_rest, log_share), torch.where(is_high, rest_slope, slope)


def implied_volatility_torch(
    price: Tensor | float,
    forward: Tensor | float,
    strike: Tensor | float,
    expiry: Tensor | float,
    is_call: Tensor | bool,
    *,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Black-76 implied volatilities of undiscounted prices.

    Args:
        price, forward, strike: in quote currency; a coin price is multiplied by its forward first.
        expiry: in years of 365 days.
        is_call: call or put.
        dtype: of the computation and of the result. In float32 a price has seven digits, of which its time value loses
            those of its intrinsic value.

    Returns:
        Volatility in 1 / sqrt(year), of the broadcast shape, on the device of the tensors that were given; NaN at or
        below intrinsic value, at or above the bound (F for a call, K for a put), where the time value underflows, and
        where an input is unknown or not positive. No gradient flows through it.

    >>> price = torch.tensor([7.965567455405804, 30.0], dtype=torch.float64)
    >>> found = implied_volatility_torch(price, 100.0, torch.tensor([100.0, 70.0]), 1.0, True)
    >>> [round(each, 12) for each in found.tolist()]
    [0.2, nan]
    """
    given = (price, forward, strike, expiry, is_call)
    device = next((each.device for each in given if isinstance(each, Tensor)), None)
    price_, forward_, strike_, years = (
        torch.as_tensor(each, dtype=dtype, device=device).detach() for each in given[:-1]
    )
    calls = torch.as_tensor(is_call, dtype=torch.bool, device=device)
    intrinsic = torch.where(calls, forward_ - strike_, strike_ - forward_).clamp(min=0.0)
    share = (price_ - intrinsic) / torch.minimum(forward_, strike_)
    m = (strike_ / forward_).log().abs()
    known = (price_ > 0.0) & (forward_ > 0.0) & (strike_ > 0.0) & (years > 0.0)
    known = known & (share >= torch.finfo(dtype).tiny) & (share < 1.0) & (m < MAX_LOG_RATIO)
    # Here all get the broadcast shape. What has no volatility takes the steps of an ordinary option.
    share, m = torch.where(known, share, 0.1), torch.where(known, m, 0.1)
    is_high = share >= 0.5
    target = torch.where(is_high, -torch.log1p(-share), share.log())
    low, high = torch.zeros_like(share), torch.full_like(share, _LARGEST_DEVIATION)
    deviation = _first_deviation(share, m)
    settled = torch.zeros_like(known)
    for _ in range(STEPS):
        inside = (low < deviation) & (deviation < high)
        deviation = torch.where(settled | inside, deviation, 0.5 * (low + high))
        d1 = 0.5 * deviation - m / deviation
        level, slope = _level_and_slope(deviation, d1, m, is_high)
        below = level < target
        low, high = torch.where(below, deviation, low), torch.where(below, high, deviation)
        newton = (level - target) / slope
        curvature = d1 * (d1 - deviation) / deviation + torch.where(is_high, slope, -slope)
        step = newton / (1.0 - 0.5 * newton * curvature).clamp(min=0.5)
        # What has settled stays: rounding may put a further step beyond its own bracket.
        deviation = torch.where(settled, deviation, deviation - step)
        settled |= step.abs() < _SETTLED * deviation
    return torch.where(known, deviation / years.sqrt(), math.nan)
