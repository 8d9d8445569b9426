"""Simulated regimes: the chain that was asked for, and posteriors that tell the truth about it."""

from __future__ import annotations

import time

import numpy as np

from features.protocols import RegimePaths
from regimes.filter import HiddenMarkov
from regimes.paths import MarkovPaths

MARKOV = HiddenMarkov(
    np.array([[0.97, 0.02, 0.01], [0.04, 0.94, 0.02], [0.02, 0.05, 0.93]]),
    np.array([[-1.0, 0.5], [0.3, -0.5], [1.5, 0.5]]),
    np.array([[[0.5, 0.1], [0.1, 0.6]], [[0.6, -0.1], [-0.1, 0.5]], [[0.7, 0.2], [0.2, 0.8]]]),
)


def test_the_chain_is_the_models_chain() -> None:
    paths: RegimePaths = MarkovPaths(MARKOV, step_bars=4)
    regime, posterior = paths.sample(20_000, 20, seed=0)
    assert regime.shape == (20_000, 20)
    assert posterior.shape == (20_000, 20, 3)
    expected = np.linalg.matrix_power(MARKOV.transition, 4)
    for origin in range(3):
        to = regime[:, 1:][regime[:, :-1] == origin]
        np.testing.assert_allclose(np.bincount(to, minlength=3) / len(to), expected[origin], atol=0.005)
    np.testing.assert_allclose(np.bincount(regime[:, 0], minlength=3) / 20_000, MARKOV.stationary, atol=0.012)


def test_posteriors_are_calibrated_and_informative() -> None:
    regime, posterior = MarkovPaths(MARKOV).sample(5_000, 30, seed=1)
    for k in range(3):
        p, hit = posterior[:, :, k].ravel(), (regime == k).ravel()
        for low in np.arange(0.0, 1.0, 0.2):
            inside = (p >= low) & (p < low + 0.2)
            assert abs(p[inside].mean() - hit[inside].mean()) < 0.02
    assert (posterior.argmax(axis=2) == regime).mean() > 0.8


def test_the_same_bits_and_a_path_does_not_depend_on_the_number_of_paths() -> None:
    paths = MarkovPaths(MARKOV, step_bars=2)
    regime, posterior = paths.sample(2_000, 7, seed=5)
    again, few = paths.sample(2_000, 7, seed=5), paths.sample(3, 7, seed=5)
    assert again[0].tobytes() == regime.tobytes()
    assert again[1].tobytes() == posterior.tobytes()
    assert few[0].tobytes() == regime[:3].tobytes()
    assert few[1].tobytes() == posterior[:3].tobytes()
    assert paths.sample(2_000, 7, seed=6)[0].tobytes() != regime.tobytes()


def test_it_is_fast_enough_to_train_on() -> None:
    paths = MarkovPaths(MARKOV)
    paths.sample(1, 1, seed=0)
    began = time.process_time()
    paths.sample(20_000, 60, seed=0)
    assert time.process_time() - began < 2.0
