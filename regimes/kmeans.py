"""K-Means regimes: the nearest centroid of the row alone, without memory. A yardstick for the hidden Markov model."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from features.errors import BadInputError
from features.kernel import kernel

Float = NDArray[np.float64]
Integer = NDArray[np.int64]

RESTARTS: Final = 10


def fit_kmeans(x_ND: Float, n_states: int, seed: int) -> Float:
    """``centroid_KD`` of scikit-learn's K-Means, ordered by the first observation (volatility).

    Raises:
        BadInputError: fewer different rows than states.
    """
    # Slow to import, and only a fit needs them.
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

    if len(np.unique(x_ND, axis=0)) < n_states:
        raise BadInputError(f"Fewer than {n_states} different rows to cluster.", "Fit on a longer window.")
    # With several threads the sums' order, and so the bits, would depend on their timing.
    with threadpool_limits(1):
        centroid_KD = KMeans(n_states, n_init=RESTARTS, random_state=seed).fit(x_ND).cluster_centers_
    return np.ascontiguousarray(centroid_KD[np.argsort(centroid_KD[:, 0])], dtype=float)


def nearest_centroid(x_ND: Float, centroid_KD: Float) -> Integer:
    """``label_N`` by Euclidean distance, ties to the calmer state; -1 where the row has a NaN."""
    label: Integer = _nearest(np.ascontiguousarray(x_ND, dtype=float), centroid_KD)
    return label


@kernel
def _nearest(x_ND: Any, centroid_KD: Any) -> Any:
    label = np.full(len(x_ND), -1, dtype=np.int64)
    for i in range(len(x_ND)):
        best = math.inf
        for k in range(len(centroid_KD)):
            distance = 0.0
            for j in range(x_ND.shape[1]):
                distance += (x_ND[i, j] - centroid_KD[k, j]) ** 2
            if distance < best:
                best, label[i] = distance, k
    return label
