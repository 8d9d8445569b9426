"""Long-run shares and variances against a plain iteration of the chain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.sources.simulated_regimes import CALM, ILLIQUID, NEXT, STRESSED, long_run_variance, occupancy

REGIMES = (CALM, STRESSED, ILLIQUID)


def _iterated(regimes: tuple) -> np.ndarray:
    step_s = 0.1
    leave = np.array([step_s / regime.mean_dwell_s for regime in regimes])
    matrix = np.diag(1 - leave) + leave[:, np.newaxis] * NEXT
    return np.linalg.matrix_power(matrix, 2**20)[0]


def test_rows_of_the_destinations_are_probabilities() -> None:
    assert NEXT.sum(axis=1) == pytest.approx([1, 1, 1])
    assert (NEXT >= 0).all()
    assert (np.diag(NEXT) == 0).all()


@pytest.mark.parametrize("dwell_s", [(120.0, 100.0, 90.0), (1_000.0, 10.0, 500.0)])
def test_occupancy_is_where_the_chain_settles(dwell_s: tuple[float, ...]) -> None:
    regimes = tuple(replace(each, mean_dwell_s=s) for each, s in zip(REGIMES, dwell_s, strict=True))
    assert occupancy(regimes) == pytest.approx(_iterated(regimes), abs=1e-9)  # type: ignore[arg-type]


def test_long_run_variance_is_the_mean_over_regimes() -> None:
    assert long_run_variance((CALM, CALM, CALM)) == pytest.approx(CALM.variance())
    assert CALM.variance() < long_run_variance(REGIMES) < ILLIQUID.variance()


def test_variance_counts_jumps() -> None:
    jumpy = replace(CALM, volatility=0.0, jumps_per_hour=10.0, jump_bps=100.0)
    assert jumpy.variance() == pytest.approx(365 * 24 * 10 * 0.01**2)
