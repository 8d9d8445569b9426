from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from features.errors import BadInputError
from hedger.policy_inputs import MIN_HALF_SPREAD_BPS, POLICY_INPUTS, policy_inputs

POSTERIOR = np.array([0.7, 0.2, 0.1])


def rows(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "spot": rng.uniform(20_000.0, 90_000.0, n),
        "strike": rng.uniform(20_000.0, 90_000.0, n),
        "expiry_years": rng.uniform(0.005, 1.0, n),
        "volatility": rng.uniform(0.1, 1.5, n),
        "is_call": rng.random(n) < 0.5,
        "posterior_NK": rng.dirichlet(np.ones(3), n),
        "half_spread_bps": rng.uniform(0.01, 10.0, n),
    }


def test_a_row_is_what_the_formulas_say() -> None:
    x = rows(200)
    inputs_ND = policy_inputs(**x)
    deviation = x["volatility"] * np.sqrt(x["expiry_years"])
    d1 = np.log(x["spot"] / x["strike"]) / deviation + deviation / 2.0
    expected = np.column_stack(
        [
            np.log(x["strike"] / x["spot"]) / deviation,
            np.sqrt(x["expiry_years"]),
            x["volatility"],
            norm.cdf(d1),
            norm.pdf(d1) / deviation,
            np.log(x["half_spread_bps"]),
            x["posterior_NK"],
        ]
    )
    assert inputs_ND.shape == (200, len(POLICY_INPUTS))
    np.testing.assert_allclose(inputs_ND, expected, rtol=1e-12, atol=1e-14)


def test_scaled_gamma_is_the_slope_of_delta_in_the_logarithm_of_the_price() -> None:
    delta, gamma = POLICY_INPUTS.index("delta"), POLICY_INPUTS.index("scaled_gamma")
    step = 1e-5
    spots = 100.0 * np.exp([-step, 0.0, step])
    low, mid, high = policy_inputs(spots, 105.0, 0.1, 0.5, True, POSTERIOR, 1.0)
    assert (high[delta] - low[delta]) / (2.0 * step) == pytest.approx(mid[gamma], rel=1e-7)


@given(cuts=st.lists(st.integers(0, 50), max_size=5))
@settings(max_examples=30, deadline=None)
def test_the_bits_of_a_row_do_not_depend_on_the_batch(cuts: list[int]) -> None:
    x = rows(50)
    whole = policy_inputs(**x)
    bounds = [0, *sorted(cuts), 50]
    parts = [policy_inputs(**{name: column[a:b] for name, column in x.items()}) for a, b in pairwise(bounds)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_put_sees_what_its_call_sees() -> None:
    both = policy_inputs(100.0, 95.0, 0.1, 0.4, np.array([True, False]), POSTERIOR, 1.0)
    np.testing.assert_array_equal(both[0], both[1])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("spot", 0.0),
        ("strike", np.nan),
        ("expiry_years", 0.0),
        ("volatility", -0.1),
        ("volatility", np.inf),
        ("half_spread_bps", -1.0),
        ("posterior_NK", np.array([np.nan, 0.5, 0.5])),
        ("posterior_NK", np.array([1.1, -0.1, 0.0])),
    ],
)
def test_a_row_with_anything_unknown_is_unknown_and_the_others_are_not(name: str, value: object) -> None:
    x = rows(3)
    x[name][1] = value
    unknown = np.isnan(policy_inputs(**x))
    assert unknown[1].all()
    assert not unknown[[0, 2]].any()


def test_a_free_market_has_the_smallest_half_spread() -> None:
    inputs_ND = policy_inputs(100.0, 100.0, 0.1, 0.4, True, POSTERIOR, np.array([0.0, MIN_HALF_SPREAD_BPS]))
    np.testing.assert_array_equal(inputs_ND[0], inputs_ND[1])


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadInputError, match="do not fit"):
        policy_inputs(np.ones(3), np.ones(2), 0.1, 0.4, True, POSTERIOR, 1.0)
    with pytest.raises(BadInputError, match="do not fit"):
        policy_inputs(np.ones(3), 1.0, 0.1, 0.4, True, np.ones((2, 3)) / 3.0, 1.0)


def test_it_does_without_torch() -> None:
    code = "import sys, hedger, hedger.policy_inputs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
