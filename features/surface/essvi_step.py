"""A damped least-squares step of one eSSVI slice, or of several that touch their neighbours only."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from features.kernel import kernel

Array = np.ndarray[Any, Any]


@kernel
def solve_damped(normal: Array, damping: float, fixed: Array, lower: Array, step: Array) -> bool:
    """(J'J + damping diag(J'J)) step = -J'r over the parameters that are not fixed, by Cholesky; False if it fails.

    Args:
        normal: J'J with -J'r as its last column; three rows a slice, which reach back to the slice before.
        damping: of Levenberg and Marquardt.
        fixed: parameters whose step is 0; shape (n,).
        lower: room for the factor, shape (n, n).
        step: gets the step.
    """
    n = normal.shape[0]
    for i in range(n):
        begin = max(3 * (i // 3) - 3, 0)
        for j in range(begin, i + 1):
            if fixed[i] or fixed[j]:
                value = 1.0 if i == j else 0.0
            else:
                value = normal[i, j] * (1.0 + damping) if i == j else normal[i, j]
            for m in range(begin, j):
                value -= lower[i, m] * lower[j, m]
            if i == j:
                if not value > 0.0:
                    return False
                lower[i, i] = math.sqrt(value)
            else:
                lower[i, j] = value / lower[j, j]
        value = 0.0 if fixed[i] else normal[i, n]
        for m in range(begin, i):
            value -= lower[i, m] * step[m]
        step[i] = value / lower[i, i]
    for i in range(n - 1, -1, -1):
        value = step[i]
        for m in range(i + 1, min(3 * (i // 3) + 6, n)):
            value -= lower[m, i] * step[m]
        step[i] = value / lower[i, i]
    return True
