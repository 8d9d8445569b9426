"""Simulated regimes with what the filter would have known of them: the paths that a policy is trained on.

Arrays carry their shape: B paths, T steps, K states, D observations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from features.kernel import kernel
from regimes.filter import HiddenMarkov, filter_rows

Float = NDArray[np.float64]
Integer = NDArray[np.int64]

BURN_IN_STEPS: Final = 30
"""Steps before the first one that is returned: live, the filter has seen a past."""

CHUNK: Final = 1024
"""Paths drawn at once. The draws of a path do not depend on how many paths are asked for."""


@dataclass(frozen=True, slots=True)
class MarkovPaths:
    """Implements :class:`features.protocols.RegimePaths` for a fitted model.

    The chain moves by ``A^step_bars``, each step is seen through one observation from the fitted Gaussians, and the
    live filter's kernel runs along it. One observation a step, not one a bar: windows of bars beside each other
    overlap, so ``step_bars`` rows say far less than as many independent ones. Use steps of at least the shortest
    window (10 s), or the posterior is surer here than it is live.

    Args:
        markov: the fitted model.
        step_bars: bars in a step of the paths.
    """

    markov: HiddenMarkov
    step_bars: int = 1

    def sample(self, n_paths: int, n_steps: int, seed: int) -> tuple[Integer, Float]:
        """``regime_BT`` (int64) and ``posterior_BTK`` (float64); see :class:`features.protocols.RegimePaths`."""
        model = self.markov.every(self.step_bars)
        k, d = model.mean.shape
        steps = BURN_IN_STEPS + n_steps
        rng = np.random.Generator(np.random.PCG64(seed))
        regime_BT = np.empty((n_paths, n_steps), dtype=np.int64)
        posterior_BTK = np.empty((n_paths, n_steps, k))
        cumulative_KK = np.cumsum(model.transition, axis=1)
        factor_KDD = np.linalg.cholesky(model.covariance)
        for first in range(0, n_paths, CHUNK):
            uniform_BT = rng.random((CHUNK, steps))
            normal_BTD = rng.standard_normal((CHUNK, steps, d))
            own = slice(first, min(first + CHUNK, n_paths))
            _sample(
                uniform_BT,
                normal_BTD,
                np.cumsum(model.stationary),
                cumulative_KK,
                factor_KDD,
                model.stationary,
                (model.transition, model.mean, model.whitening, model.log_norm),
                regime_BT[own],
                posterior_BTK[own],
            )
        return regime_BT, posterior_BTK


@kernel
def _sample(
    uniform_BT: Any,
    normal_BTD: Any,
    cumulative_K: Any,
    cumulative_KK: Any,
    factor_KDD: Any,
    stationary_K: Any,
    model: Any,
    regime_BT: Any,
    posterior_BTK: Any,
) -> None:
    n_paths, n_steps = regime_BT.shape
    steps, d = normal_BTD.shape[1:]
    transition_KK, mean_KD, whitening_KDD, log_norm_K = model
    x_TD = np.empty((steps, d))
    path_T = np.empty(steps, dtype=np.int64)
    posterior_TK = np.empty((steps, len(stationary_K)))
    for b in range(n_paths):
        state = 0
        for t in range(steps):
            state = _draw(uniform_BT[b, t], cumulative_K if t == 0 else cumulative_KK[state])
            path_T[t] = state
            for row in range(d):
                x_TD[t, row] = mean_KD[state, row]
                for column in range(row + 1):
                    x_TD[t, row] += factor_KDD[state, row, column] * normal_BTD[b, t, column]
        filter_rows(stationary_K, x_TD, transition_KK, mean_KD, whitening_KDD, log_norm_K, posterior_TK)
        regime_BT[b] = path_T[steps - n_steps :]
        posterior_BTK[b] = posterior_TK[steps - n_steps :]


@kernel
def _draw(uniform: float, cumulative_K: Any) -> int:
    """The state in whose part of [0, 1) the number falls; the last one where rounding leaves a sum below 1."""
    for k in range(len(cumulative_K) - 1):
        if uniform < cumulative_K[k]:
            return k
    return len(cumulative_K) - 1
