"""Measures of regimes, against counting by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from features.errors import BadInputError
from regimes.evaluate import balanced_accuracy, best_mapping, occupancy, switches_per_1000


def test_balanced_accuracy() -> None:
    truth, label = np.array([0, 0, 0, 0, 1, 1, 2, 2]), np.array([0, 0, 0, 1, 1, -1, 0, 0])
    assert balanced_accuracy(truth, label) == pytest.approx((0.75 + 0.5 + 0.0) / 3)
    rng = np.random.default_rng(0)
    truth, label = rng.integers(3, size=500), rng.integers(3, size=500)
    assert balanced_accuracy(truth, label) == pytest.approx(balanced_accuracy_score(truth, label))
    assert math.isnan(balanced_accuracy(truth[:0], label[:0]))
    with pytest.raises(BadInputError):
        balanced_accuracy(truth, label[1:])


def test_best_mapping_undoes_a_relabelling() -> None:
    truth = np.random.default_rng(1).integers(3, size=200)
    label = np.array([2, 0, 1])[truth]
    label[:5] = -1
    mapping = best_mapping(truth, label, 3)
    assert mapping == (1, 2, 0)
    assert balanced_accuracy(truth[5:], np.array(mapping)[label[5:]]) == 1.0


def test_switches_and_occupancy() -> None:
    label = np.array([0, 0, 1, 1, 0, -1])
    assert switches_per_1000(label) == pytest.approx(1000 * 3 / 5)
    assert math.isnan(switches_per_1000(label[:1]))
    np.testing.assert_allclose(occupancy(label, 3), [3 / 6, 2 / 6, 0.0])
