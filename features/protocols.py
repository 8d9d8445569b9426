"""What one model needs of another, so that neither imports the other (DESIGN 1); ``pipeline`` passes them in."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Integer = NDArray[np.int64]


class RegimePaths(Protocol):
    """Hidden regimes, and what a filter would have known of them, along simulated paths.

    A policy that is trained on the true regime learns to trade on what nobody can see; so the paths carry the
    *filtered* posterior, made by the very filter that runs live.
    """

    def sample(self, n_paths: int, n_steps: int, seed: int) -> tuple[Integer, Float]:
        """Simulate ``n_paths`` paths (B) of ``n_steps`` steps (T) over K regimes.

        Returns:
            ``regime_BT``: the regime that rules from step t to t + 1, ordered by volatility; ``posterior_BTK``:
            its probabilities given the observations up to step t. The same bits for the same arguments.
        """
        ...


class BandModel(Protocol):
    """A no-trade band: hold what you have while it lies inside, else trade to the nearest edge."""

    @property
    def version(self) -> str:
        """Names the model in every decision that it makes."""
        ...

    def band(self, inputs_ND: Float) -> tuple[Float, Float]:
        """``lower_N, upper_N`` >= 0: any position in [delta - lower, delta + upper] is kept, for one short option.

        ``inputs_ND`` are the policy's inputs in its own order. NaN inputs give NaN bands. The bits of a row do not
        depend on the other rows.
        """
        ...
