"""Principal factors: numpy's eigenvectors, a slow covariance, and scores that know nothing of what comes later."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from features.surface.principal import (
    DAYS,
    HALF_LIFE_NS,
    LEAST,
    NODES,
    STATE,
    eigenvectors,
    nodes_of,
    principal_scores,
)
from features.surface.slices import variance_at
from features.surface.streamed_features import volatility_at_delta

Array = np.ndarray[Any, Any]

NOW_NS = 1_770_000_000_000_000_000
STEP_NS = 3_600 * 10**9
LEVEL = np.ones(NODES) / 3.0
SLOPE = np.repeat([-1.0, 0.0, 1.0], 3) / math.sqrt(6)
CURVATURE = np.tile([1.0, -2.0, 1.0], 3) / math.sqrt(18)


def moves(seed: int, n: int, *sizes: float, noise: float = 1e-4) -> Array:
    """Surfaces that move by level, slope and curvature of these standard deviations, and a little else."""
    rng = np.random.default_rng(seed)
    factors = np.stack([LEVEL, SLOPE, CURVATURE])
    amounts = rng.standard_normal((n, 3)) * np.array(sizes)
    return math.log(0.6) + amounts @ factors + noise * rng.standard_normal((n, NODES))


def scores_of(surfaces: Array, state: Array | None = None) -> Array:
    known, out = np.zeros(STATE) if state is None else state, np.empty((len(surfaces), 3))
    for i, x in enumerate(surfaces):
        principal_scores(known, x, NOW_NS + i * STEP_NS, out[i])
    return out


@pytest.mark.parametrize("seed", range(5))
def test_eigenvectors_are_numpys(seed: int) -> None:
    root = np.random.default_rng(seed).standard_normal((NODES, NODES))
    matrix = root @ root.T
    values, vectors = np.linalg.eigh(matrix)
    ours, found = matrix.copy(), np.empty((NODES, NODES))
    eigenvectors(ours, found)
    order = np.argsort(np.diag(ours))
    np.testing.assert_allclose(np.diag(ours)[order], values, atol=1e-13 * values[-1])
    np.testing.assert_allclose(np.abs(np.sum(found[:, order] * vectors, axis=0)), 1.0, rtol=1e-10)
    np.testing.assert_allclose(found.T @ found, np.eye(NODES), atol=1e-13)


def test_eigenvectors_of_small_numbers_and_of_a_diagonal() -> None:
    """Variances of log volatilities are of 1e-6: the sweeps go on until nothing is left beside the diagonal."""
    root = np.random.default_rng(0).standard_normal((NODES, NODES))
    small = 1e-9 * root @ root.T
    found = np.empty((NODES, NODES))
    ours = small.copy()
    eigenvectors(ours, found)
    np.testing.assert_allclose(found @ np.diag(np.diag(ours)) @ found.T, small, atol=1e-22)
    np.testing.assert_allclose(np.sort(np.diag(ours)), np.linalg.eigvalsh(small), rtol=1e-6)
    diagonal = np.diag(np.arange(1.0, NODES + 1))
    eigenvectors(ours := diagonal.copy(), found)
    np.testing.assert_array_equal(ours, diagonal)
    np.testing.assert_array_equal(found, np.eye(NODES))


def test_nodes_are_the_logarithms_of_nine_volatilities() -> None:
    years = np.array([10, 100]) / 365
    essvi, svi = np.array([[0.01, 0.08, 0.1], [0.1, 0.3, 0.4]]), np.full((2, 5), math.nan)
    x = np.empty(NODES)
    nodes_of(years, essvi, svi, x)
    for i, days in enumerate(DAYS):
        put, call = (volatility_at_delta(years, essvi, svi, days / 365, delta) for delta in (0.75, 0.25))
        middle = math.sqrt(variance_at(years, essvi, svi, 0.0, days / 365) / (days / 365))
        assert np.exp(x[3 * i : 3 * i + 3]).tolist() == pytest.approx([put, middle, call], rel=1e-14)


def test_a_move_of_one_factor_is_its_score() -> None:
    surfaces = moves(1, 400, 0.05, 0.02, 0.01)
    state = np.zeros(STATE)
    scores_of(surfaces, state)
    mean = state[2 : 2 + NODES].copy()
    for factor, (direction, size) in enumerate(zip((LEVEL, SLOPE, CURVATURE), (0.05, 0.02, 0.01), strict=True)):
        out = np.empty(3)
        principal_scores(state.copy(), mean + 2.0 * size * direction, NOW_NS + 400 * STEP_NS, out)
        # Two standard deviations, as well as some fifty hourly surfaces tell one, and factors turned by as much.
        assert out[factor] == pytest.approx(2.0, abs=0.7)
        assert np.abs(np.delete(out, factor)).max() < 0.8


def test_the_covariance_is_the_weighted_one_and_the_score_is_by_numpys_factors() -> None:
    surfaces = moves(2, 200, 0.05, 0.03, 0.02, noise=0.002)
    state = np.zeros(STATE)
    scores_of(surfaces, state)
    weights = np.zeros(0)
    for i in range(len(surfaces)):
        gain = max(1.0 - 0.5 ** (STEP_NS / HALF_LIFE_NS), 1.0 / (i + 1.0))
        weights = np.append(weights * (1.0 - gain), gain)
    mean = weights @ surfaces
    covariance = (surfaces - mean).T @ (weights[:, None] * (surfaces - mean))
    np.testing.assert_allclose(state[2 : 2 + NODES], mean, rtol=1e-12)
    np.testing.assert_allclose(state[2 + NODES :].reshape(NODES, NODES), covariance, atol=1e-15)
    values, vectors = np.linalg.eigh(covariance + 1e-8 * np.eye(NODES))
    out, x = np.empty(3), surfaces[0]
    principal_scores(state, x, NOW_NS + 200 * STEP_NS, out)
    expected = np.abs((x - mean) @ vectors[:, -3:]) / np.sqrt(values[-3:])
    np.testing.assert_allclose(np.sort(np.abs(out)), np.sort(expected), rtol=1e-8)


def test_later_surfaces_change_no_earlier_score() -> None:
    surfaces = moves(3, 150, 0.05, 0.02, 0.01)
    full = scores_of(surfaces)
    np.testing.assert_array_equal(scores_of(surfaces[:100]), full[:100])
    other = np.concatenate([surfaces[:100], surfaces[100:] + 1.0])
    np.testing.assert_array_equal(scores_of(other)[:100], full[:100])
    assert not np.array_equal(scores_of(other)[100:], full[100:])


def test_before_there_is_a_covariance_nothing_is_said() -> None:
    scores = scores_of(moves(4, LEAST + 10, 0.05, 0.02, 0.01))
    assert np.isnan(scores[:LEAST]).all()
    assert np.isfinite(scores[LEAST:]).all()
    same = scores_of(np.full((LEAST + 5, NODES), math.log(0.5)))
    assert (same[LEAST:] == 0.0).all()


def test_an_unknown_surface_is_not_learnt() -> None:
    surfaces = moves(5, 80, 0.05, 0.02, 0.01)
    state = np.zeros(STATE)
    scores_of(surfaces, state)
    before, out = state.copy(), np.empty(3)
    spoilt = surfaces[0].copy()
    spoilt[4] = math.nan
    principal_scores(state, spoilt, NOW_NS + 80 * STEP_NS, out)
    assert np.isnan(out).all()
    np.testing.assert_array_equal(state, before)
