"""What a band policy sees: one row of numbers per claim and bar, the same live, in backfill and in training.

With tau the time to expiry in years, s the implied volatility and d1 = log(S / K) / (s sqrt(tau)) + s sqrt(tau) / 2
(Black 1976), a row is

====================  ======================================================================================
log_moneyness         log(K / S) / (s sqrt(tau)), in standard deviations
sqrt_expiry           sqrt(tau)
volatility            s
delta                 N(d1): of the call, for a put too
scaled_gamma          S Gamma = n(d1) / (s sqrt(tau)): change of delta per unit of log-return
log_half_spread       log(half spread in basis points)
posterior_0, 1, 2     filtered probabilities of the regimes, calmest first
====================  ======================================================================================

Every row is computed by itself, so its bits do not depend on the others (DESIGN 3). The twin for training on tensors
is :func:`hedger.black_tensors.policy_input_tensor`. No torch here.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from features.errors import BadInputError
from features.kernel import kernel
from features.signals import REGIMES
from features.surface.black import normal_cdf, normal_pdf

Float = NDArray[np.float64]

BASIS_POINT: Final = 1e-4

MIN_HALF_SPREAD_BPS: Final = 1e-3
"""Half spreads below are taken as this one: a locked market or a free one, but no logarithm of zero."""

POLICY_INPUTS: Final[tuple[str, ...]] = (
    "log_moneyness",
    "sqrt_expiry",
    "volatility",
    "delta",
    "scaled_gamma",
    "log_half_spread",
    *(f"posterior_{k}" for k in range(len(REGIMES))),
)
"""The columns of ``inputs_ND``, in order."""

_MARKET: Final = 5  # rows of claim_CN before the posterior


def policy_inputs(
    spot: ArrayLike,
    strike: ArrayLike,
    expiry_years: ArrayLike,
    volatility: ArrayLike,
    is_call: ArrayLike,
    posterior_NK: ArrayLike,
    half_spread_bps: ArrayLike,
) -> Float:
    """Build ``inputs_ND``.

    Args:
        spot, strike: in one currency; the forward, where it differs from the spot.
        expiry_years: time to expiry in years of 365 days.
        volatility: implied, in 1 / sqrt(year).
        is_call: by put-call parity a put and the call of its strike differ by a forward, which is hedged without
            ever trading again: both have the same inputs and the same band around their own delta. It is here so
            that a claim is always described in full.
        posterior_NK: of the regimes; shape (N, K), or (K,) for all rows.
        half_spread_bps: half the bid-ask spread, in basis points of the mid.

        All but ``posterior_NK`` are scalars or have shape (N,).

    Returns:
        Shape (N, D) in the order of :data:`POLICY_INPUTS`. A row with an input that is NaN, infinite or impossible
        (an expired option, no volatility, a negative spread) is NaN throughout: unknown.

    Raises:
        BadInputError: the shapes do not fit.
    """
    posterior = np.atleast_2d(np.asarray(posterior_NK, dtype=np.float64))
    if posterior.ndim != 2 or posterior.shape[1] != len(REGIMES):
        raise BadInputError(f"The posterior has shape {posterior.shape}.", f"Pass (N, {len(REGIMES)}).")
    numbers = (spot, strike, expiry_years, volatility, half_spread_bps, *posterior.T)
    try:
        *columns, _ = np.broadcast_arrays(*(np.asarray(each, dtype=np.float64) for each in numbers), is_call)
        claim_CN = np.stack(columns)
    except ValueError as error:
        raise BadInputError(f"Policy inputs do not fit together: {error}.", "Pass scalars or (N,) columns.") from error
    inputs_ND = np.empty((claim_CN.shape[1], len(POLICY_INPUTS)))
    _fill(claim_CN, inputs_ND)
    return inputs_ND


@kernel
def _fill(claim_CN: Any, inputs_ND: Any) -> None:
    for i in range(len(inputs_ND)):
        spot, strike, expiry_years = claim_CN[0, i], claim_CN[1, i], claim_CN[2, i]
        volatility, half_spread_bps = claim_CN[3, i], claim_CN[4, i]
        known = spot > 0.0 and strike > 0.0 and expiry_years > 0.0 and volatility > 0.0 and half_spread_bps >= 0.0
        for j in range(len(claim_CN)):
            known = known and math.isfinite(claim_CN[j, i])
        for j in range(_MARKET, len(claim_CN)):
            known = known and 0.0 <= claim_CN[j, i] <= 1.0
        if not known:
            inputs_ND[i, :] = math.nan
            continue
        deviation = volatility * math.sqrt(expiry_years)
        log_moneyness = math.log(strike / spot)
        d1 = -log_moneyness / deviation + 0.5 * deviation
        inputs_ND[i, 0] = log_moneyness / deviation
        inputs_ND[i, 1] = math.sqrt(expiry_years)
        inputs_ND[i, 2] = volatility
        inputs_ND[i, 3] = normal_cdf(d1)
        inputs_ND[i, 4] = normal_pdf(d1) / deviation
        inputs_ND[i, 5] = math.log(max(half_spread_bps, MIN_HALF_SPREAD_BPS))
        for k in range(len(claim_CN) - _MARKET):
            inputs_ND[i, 6 + k] = claim_CN[_MARKET + k, i]
