"""The EM: finds the parameters, orders the states, says when it did not converge, and never warns."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest

from features.errors import BadInputError
from regimes.filter import HiddenMarkov
from regimes.hmm import FitConfig, fit_hmm

TRUTH = HiddenMarkov(
    np.array([[0.97, 0.02, 0.01], [0.04, 0.94, 0.02], [0.02, 0.05, 0.93]]),
    np.array([[-1.0, 0.5], [0.3, -1.0], [2.0, 1.5]]),
    np.array([[[0.3, 0.1], [0.1, 0.4]], [[0.4, -0.1], [-0.1, 0.3]], [[0.5, 0.2], [0.2, 0.6]]]),
)


def sample(t: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    state, out = 0, np.empty((t, 2))
    for i in range(t):
        state = rng.choice(3, p=TRUTH.transition[state])
        out[i] = rng.multivariate_normal(TRUTH.mean[state], TRUTH.covariance[state])
    return out


def test_recovers_the_parameters(caplog: pytest.LogCaptureFixture) -> None:
    x = sample(6000, seed=0)
    with caplog.at_level(logging.WARNING):
        fit = fit_hmm([x[:2500], x[2500:]], 3, seed=1)
    assert caplog.records == []
    assert fit.converged
    assert fit.restarts_converged >= 1
    np.testing.assert_allclose(fit.markov.mean, TRUTH.mean, atol=0.07)
    np.testing.assert_allclose(fit.markov.covariance, TRUTH.covariance, atol=0.07)
    np.testing.assert_allclose(fit.markov.transition, TRUTH.transition, atol=0.015)
    np.testing.assert_allclose(fit.markov.transition.sum(axis=1), 1.0, atol=1e-12)


def test_states_are_ordered_and_the_fit_is_deterministic() -> None:
    x = sample(600, seed=2)
    first, second = fit_hmm([x], 3, seed=3), fit_hmm([x], 3, seed=3)
    assert (np.diff(first.markov.mean[:, 0]) > 0).all()
    for name in ("transition", "mean", "covariance"):
        assert getattr(first.markov, name).tobytes() == getattr(second.markov, name).tobytes()


def test_more_iterations_never_lower_the_objective_and_too_few_are_reported() -> None:
    x = sample(400, seed=4)
    config = FitConfig(restarts=1)
    short = fit_hmm([x], 3, seed=0, config=replace(config, max_iterations=3))
    assert not short.converged
    assert short.iterations == 3
    assert short.restarts_converged == 0
    full = fit_hmm([x], 3, seed=0, config=config)
    assert full.converged
    assert full.iterations > 3


def test_no_switch_becomes_impossible_and_no_state_a_spike() -> None:
    """One repeated value and no visible switch: the priors keep every number finite and every door open."""
    x = np.zeros((200, 2))
    x[100:] += np.random.default_rng(0).normal(size=(100, 2))
    fit = fit_hmm([x], 3, seed=0)
    assert (fit.markov.transition > 0).all()
    assert (np.linalg.eigvalsh(fit.markov.covariance) > 1e-2).all()
    assert np.isfinite(fit.markov.filter(x)).all()


def test_too_few_rows() -> None:
    with pytest.raises(BadInputError, match="50 usable rows for 3 states"):
        fit_hmm([sample(50, seed=0)], 3, seed=0)
