"""K-Means: ordered centroids, nearest by definition, unknown stays unknown."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.cluster import KMeans

from features.errors import BadInputError
from regimes.kmeans import fit_kmeans, nearest_centroid


def test_finds_groups_and_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    centre = np.array([[2.0, 0.0], [-2.0, 1.0], [0.0, -3.0]])
    x = np.concatenate([c + 0.2 * rng.normal(size=(100, 2)) for c in centre])
    centroids = fit_kmeans(x, 3, seed=0)
    np.testing.assert_allclose(centroids, centre[[1, 2, 0]], atol=0.1)
    label = nearest_centroid(x, centroids)
    np.testing.assert_array_equal(label, np.repeat([2, 0, 1], 100))
    np.testing.assert_array_equal(label, KMeans(3, init=centroids, n_init=1, max_iter=1).fit(x).labels_)


def test_unknown_rows_and_ties() -> None:
    centroids = np.array([[0.0, 0.0], [2.0, 0.0]])
    x = np.array([[math.nan, 0.0], [1.0, 0.0], [1.1, 5.0]])
    np.testing.assert_array_equal(nearest_centroid(x, centroids), [-1, 0, 1])


def test_too_few_different_rows() -> None:
    with pytest.raises(BadInputError, match="different rows"):
        fit_kmeans(np.repeat([[0.0], [1.0]], 50, axis=0), 3, seed=0)
