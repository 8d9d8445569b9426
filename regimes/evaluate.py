"""How good a sequence of regimes is: against a known truth, and by its restlessness."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from features.errors import BadInputError

Float = NDArray[np.float64]
Integer = NDArray[np.int64]


def balanced_accuracy(truth_N: Integer, label_N: Integer) -> float:
    """Mean recall over the states that occur in the truth (Brodersen et al. 2010).

    Rows whose label is -1 (unknown) count as wrong. 1 / states is a guess; NaN without rows.

    Raises:
        BadInputError: the lengths differ.
    """
    if len(truth_N) != len(label_N):
        raise BadInputError(f"{len(truth_N)} true regimes, {len(label_N)} labels.", "Join them by bar first.")
    recalls = [float(np.mean(label_N[truth_N == k] == k)) for k in np.unique(truth_N)]
    return float(np.mean(recalls)) if recalls else float("nan")


def best_mapping(truth_N: Integer, label_N: Integer, n_states: int) -> tuple[int, ...]:
    """``mapping[label] = true state`` with the largest balanced accuracy; for states that come in no order.

    It looks at the truth, so it flatters: where both are ordered by volatility, use the labels as they are.
    """

    def score(mapping: tuple[int, ...]) -> float:
        return balanced_accuracy(truth_N, np.append(np.array(mapping), -1)[label_N])

    return max(permutations(range(n_states)), key=score)


def switches_per_1000(label_N: Integer) -> float:
    """Changes of state per 1,000 rows of one underlying; each is a trade that somebody pays for."""
    return 1000.0 * float(np.mean(label_N[1:] != label_N[:-1])) if len(label_N) > 1 else float("nan")


def occupancy(label_N: Integer, n_states: int) -> Float:
    """``share_K`` of the rows in each state; rows with -1 belong to none."""
    return np.bincount(label_N[label_N >= 0], minlength=n_states) / max(len(label_N), 1)
