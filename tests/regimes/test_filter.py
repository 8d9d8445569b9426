"""The filter: the forward algorithm, causal, the same bits wherever it is cut."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from regimes.filter import HiddenMarkov, stationary_distribution


def model(k: int, d: int, seed: int) -> HiddenMarkov:
    rng = np.random.default_rng(seed)
    transition = rng.dirichlet(np.ones(k), size=k) * 0.3 + 0.7 * np.eye(k)
    factor = rng.normal(size=(k, d, d)) * 0.4 + np.eye(d)
    return HiddenMarkov(transition, rng.normal(size=(k, d)) * 2.0, factor @ factor.transpose(0, 2, 1))


def rows(t: int, d: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed + 1000)
    x = rng.normal(size=(t, d)) * 2.0
    x[rng.random(t) < 0.15, rng.integers(d)] = math.nan
    return x


def forward(markov: HiddenMarkov, x_TD: np.ndarray) -> np.ndarray:
    """The textbook recursion, in plain Python and probabilities."""
    k = len(markov.transition)
    belief = [float(p) for p in markov.stationary]
    out = []
    for x in x_TD:
        belief = [sum(markov.transition[i, j] * belief[i] for i in range(k)) for j in range(k)]
        if not np.isnan(x).any():
            belief = [
                b * multivariate_normal.pdf(x, markov.mean[j], markov.covariance[j]) for j, b in enumerate(belief)
            ]
            belief = [b / sum(belief) for b in belief]
        out.append(belief)
    return np.array(out)


@pytest.mark.parametrize(("k", "d"), [(2, 1), (3, 3), (4, 2)])
def test_equals_the_forward_algorithm(k: int, d: int) -> None:
    markov, x = model(k, d, seed=k), rows(200, d, seed=d)
    np.testing.assert_allclose(markov.filter(x), forward(markov, x), rtol=0, atol=1e-12)


def test_stationary_distribution() -> None:
    markov = model(4, 2, seed=9)
    p = stationary_distribution(markov.transition)
    np.testing.assert_allclose(p @ markov.transition, p, atol=1e-15)
    np.testing.assert_allclose(p, np.linalg.matrix_power(markov.transition, 500)[0], atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 99), max_size=6), st.integers(0, 5))
def test_cut_anywhere_gives_the_same_bits(cuts: list[int], seed: int) -> None:
    markov, x = model(3, 3, seed), rows(100, 3, seed)
    whole = markov.filter(x)
    state, parts = markov.stationary, []
    for part in np.split(x, sorted(cuts)):
        parts.append(markov.filter(part, state))
        state = parts[-1][-1] if len(part) else state
    assert np.concatenate(parts).tobytes() == whole.tobytes()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.floats(-1e9, 1e9) | st.just(math.nan) | st.just(math.inf))
def test_later_rows_never_change_earlier_posteriors(at: int, value: float) -> None:
    markov, x = model(3, 3, seed=1), rows(100, 3, seed=1)
    changed = x.copy()
    changed[at:] = value
    assert markov.filter(changed)[:at].tobytes() == markov.filter(x)[:at].tobytes()


def test_unknown_rows_decay_to_the_stationary_distribution() -> None:
    markov = model(3, 2, seed=3)
    x = np.full((400, 2), math.nan)
    x[0] = markov.mean[2]
    posterior = markov.filter(x)
    np.testing.assert_allclose(posterior[1], posterior[0] @ markov.transition, atol=1e-15)
    np.testing.assert_allclose(posterior[-1], markov.stationary, atol=1e-12)


def test_an_outlier_does_not_underflow() -> None:
    posterior = model(3, 2, seed=4).filter(np.full((5, 2), 1e6))
    assert np.isfinite(posterior).all()
    np.testing.assert_allclose(posterior.sum(axis=1), 1.0, atol=1e-12)


def test_every_nth_row_is_the_power_of_the_chain() -> None:
    markov = model(3, 2, seed=5)
    gap = np.full((4, 2), math.nan)
    x = np.array([[0.3, -0.2]])
    state = markov.filter(x)[0]
    slow = markov.filter(np.concatenate([gap, x]), state)[-1]
    np.testing.assert_allclose(markov.every(5).filter(x, state)[0], slow, atol=1e-12)


def nystrup(t: int, paths: int) -> tuple[HiddenMarkov, np.ndarray, np.ndarray]:
    """The two-state chain of Nystrup et al. (daily stock returns)."""
    transition = np.array([[1 - 0.0024, 0.0024], [0.0232, 1 - 0.0232]])
    mean, deviation = np.array([0.0006, -0.000881]), np.array([0.00757, 0.0163])
    markov = HiddenMarkov(transition, mean[:, None], (deviation**2)[:, None, None])
    rng = np.random.default_rng(0)
    regime = np.empty((paths, t), dtype=np.int64)
    regime[:, 0] = rng.random(paths) < markov.stationary[1]
    for i in range(1, t):
        regime[:, i] = rng.random(paths) < transition[regime[:, i - 1], 1]
    return markov, regime, mean[regime] + deviation[regime] * rng.standard_normal((paths, t))


@pytest.mark.parametrize(("t", "published"), [(250, 0.671), (1000, 0.843)])
def test_filter_with_true_parameters_reaches_the_known_accuracy(t: int, published: float) -> None:
    """Mean of the two recalls; a state that a path never visits counts as not found, as in the reference values."""
    markov, regime, x = nystrup(t, 400)
    accuracy = []
    for z, path in zip(regime, x, strict=True):
        label = markov.filter(path[:, None]).argmax(axis=1)
        accuracy.append(sum((label[z == k] == k).mean() if (z == k).any() else 0.0 for k in (0, 1)) / 2)
    assert abs(float(np.mean(accuracy)) - published) < 0.025


def test_posteriors_are_calibrated() -> None:
    """Of the rows with posterior p, a share p is in the state: that is what a filter promises."""
    markov, regime, x = nystrup(1000, 200)
    p = np.concatenate([markov.filter(path[:, None])[:, 1] for path in x])
    z = regime.ravel()
    for low in (0.0, 0.05, 0.2, 0.4, 0.6, 0.8):
        inside = (p >= low) & (p < low + 0.2)
        assert abs(p[inside].mean() - z[inside].mean()) < 0.03


def test_the_filter_loads_no_fitting_library() -> None:
    heavy = ("hmmlearn", "sklearn", "polars", "torch", "lightgbm")
    code = f"import sys, regimes.model; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
