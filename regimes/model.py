"""The regime model: raw columns of the universe rows in, probabilities of the regimes out.

Live, a row at a time::

    model = load_regimes(folder, catalogue_hash())
    state = model.init()
    for each bar:
        x_D = model.observe(raw_C, underlying)   # raw_C: the row's `model.columns`, NaN where null
        state = model.update(state, x_D)         # P(regime | rows so far); calmest first

Over a frame, with the same bits: ``model.posterior(frame)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from features.artifact import Manifest, load_artifact, save_artifact
from features.errors import BadInputError
from features.rows import raw_rows
from regimes.features import (
    OBSERVATIONS,
    Observation,
    Scaler,
    columns_of,
    log_observations,
    observe,
)
from regimes.filter import HiddenMarkov
from regimes.kmeans import fit_kmeans, nearest_centroid

if TYPE_CHECKING:
    import polars as pl

Float = NDArray[np.float64]
Integer = NDArray[np.int64]

KIND: Final = "regimes"

MIN_ROWS_PER_UNDERLYING: Final = 30


@dataclass(frozen=True, slots=True, eq=False)
class RegimeModel:
    """Regimes in order of their volatility.

    Attributes:
        observations: what is read of a row.
        scalers: underlying -> standardisation of its observations.
        markov: the hidden Markov model of standardised observations, one for all underlyings.
        centroids: of K-Means on the same (KD).
        seed: of the fit.
        metrics: of the fit.
        version: names the saved model in every row that it makes; empty before it is saved.
    """

    observations: tuple[Observation, ...]
    scalers: Mapping[str, Scaler]
    markov: HiddenMarkov
    centroids: Float
    seed: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    version: str = ""

    @property
    def n_states(self) -> int:
        """K."""
        return len(self.centroids)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a raw row, in order."""
        return columns_of(self.observations)

    def observe(self, raw: Float, underlying: str) -> Float:
        """Standardised observations ``x_ND`` of ``raw_NC`` (or ``x_D`` of one row ``raw_C``), NaN where unknown.

        Raises:
            BadInputError: the underlying was not in the fit.
        """
        scaler = self.scalers.get(underlying)
        if scaler is None:
            raise BadInputError(
                f"The regimes were not fitted on {underlying!r}, only on {sorted(self.scalers)}.",
                "Fit them on rows of all underlyings.",
            )
        return observe(np.atleast_2d(raw), self.observations, scaler).reshape(*raw.shape[:-1], len(self.observations))

    def init(self) -> Float:
        """``state_K`` before the first row: the stationary distribution."""
        return self.markov.stationary.copy()

    def update(self, state_K: Float, x_D: Float) -> Float:
        """The posterior after one more row; it is the next state."""
        return self.markov.filter(x_D[None, :], state_K).reshape(-1)

    def filter(self, x_TD: Float, state_K: Float | None = None) -> Float:
        """``posterior_TK`` of consecutive rows of one underlying."""
        return self.markov.filter(x_TD, state_K)

    def kmeans(self, x_D: Float) -> int:
        """The K-Means regime of one row; -1 when unknown."""
        return int(nearest_centroid(x_D[None, :], self.centroids)[0])

    def posterior(self, frame: pl.DataFrame) -> tuple[Float, Integer]:
        """``posterior_NK`` and K-Means ``label_N`` of universe rows, each underlying in the frame's own order."""
        posterior_NK = np.empty((frame.height, self.n_states))
        label_N = np.empty(frame.height, dtype=np.int64)
        raw_NC, names = raw_rows(frame, self.columns), frame["underlying"].to_numpy()
        for underlying in np.unique(names):
            own = names == underlying
            x_TD = self.observe(raw_NC[own], str(underlying))
            posterior_NK[own] = self.filter(x_TD)
            label_N[own] = nearest_centroid(x_TD, self.centroids)
        return posterior_NK, label_N

    def save(self, folder: Path, *, catalogue: str, data: Mapping[str, Any]) -> Manifest:
        """Write the model folder; ``catalogue`` and ``data`` say on which features and rows it was fitted."""
        names = sorted(self.scalers)
        return save_artifact(
            folder,
            kind=KIND,
            name=folder.name,
            catalogue=catalogue,
            seed=self.seed,
            settings={
                "observations": [asdict(observation) for observation in self.observations],
                "underlyings": names,
                "n_states": self.n_states,
            },
            metrics=self.metrics,
            data=data,
            tensors={
                "transition_KK": self.markov.transition,
                "mean_KD": self.markov.mean,
                "covariance_KDD": self.markov.covariance,
                "centroid_KD": self.centroids,
                "location_UD": np.array([self.scalers[name].location for name in names]),
                "scale_UD": np.array([self.scalers[name].scale for name in names]),
            },
        )


def load_regimes(folder: Path, catalogue: str | None) -> RegimeModel:
    """Read a model folder.

    Raises:
        ArtifactError: it is missing, damaged, no regime model, or made for another catalogue.
    """
    artifact = load_artifact(folder, kind=KIND, catalogue=catalogue)
    settings, tensors = artifact.manifest.settings, artifact.tensors
    return RegimeModel(
        observations=tuple(Observation(tuple(o["columns"]), o["floor"]) for o in settings["observations"]),
        scalers={
            name: Scaler(location_D, scale_D)
            for name, location_D, scale_D in zip(
                settings["underlyings"], tensors["location_UD"], tensors["scale_UD"], strict=True
            )
        },
        markov=HiddenMarkov(tensors["transition_KK"], tensors["mean_KD"], tensors["covariance_KDD"]),
        centroids=tensors["centroid_KD"],
        seed=artifact.manifest.seed,
        metrics=artifact.manifest.metrics,
        version=artifact.manifest.version,
    )


def fit_regimes(
    frame: pl.DataFrame,
    n_states: int = 3,
    seed: int = 0,
    observations: tuple[Observation, ...] = OBSERVATIONS,
) -> RegimeModel:
    """Fit scalers, hidden Markov model and K-Means on universe rows of any number of underlyings, pooled.

    Raises:
        BadInputError: a column is missing, or there are too few rows.
    """
    from regimes.pooling import fit_pooled  # hmmlearn and scikit-learn are slow to import, and only a fit needs them

    columns = columns_of(observations)
    # Sorted, so that the fit does not depend on the order of the frame.
    parts = frame.sort("underlying", "bar_ts").partition_by("underlying", maintain_order=True)
    logs = {part["underlying"][0]: log_observations(raw_rows(part, columns), observations) for part in parts}
    for underlying, log_ND in logs.items():
        _check_rows(underlying, log_ND, columns)
    bar_ts = {part["underlying"][0]: part["bar_ts"].to_numpy() for part in parts}
    pooled = fit_pooled(logs, bar_ts, n_states, seed)
    x_ND = np.concatenate(pooled.sequences)
    occupancy_K = np.bincount(pooled.fit.markov.filter(x_ND).argmax(axis=1), minlength=n_states) / len(x_ND)
    return RegimeModel(
        observations=observations,
        scalers=pooled.scalers,
        markov=pooled.fit.markov,
        centroids=fit_kmeans(x_ND, n_states, seed),
        seed=seed,
        metrics={
            "rows": float(len(x_ND)),
            "sequences": float(len(pooled.sequences)),
            "log_likelihood_per_row": pooled.fit.log_likelihood_per_row,
            "converged": float(pooled.fit.converged),
            "iterations": float(pooled.fit.iterations),
            "restarts_converged": float(pooled.fit.restarts_converged),
        }
        | {f"occupancy_{k}": float(share) for k, share in enumerate(occupancy_K)},
    )


def _check_rows(underlying: str, log_ND: Float, columns: tuple[str, ...]) -> None:
    known = int((~np.isnan(log_ND).any(axis=1)).sum())
    if known < MIN_ROWS_PER_UNDERLYING:
        raise BadInputError(
            f"{underlying} has {known} of {len(log_ND)} rows with {', '.join(columns)}; "
            f"{MIN_ROWS_PER_UNDERLYING} are needed.",
            "Fit on a longer window; rows are unknown while the book is invalid and until their windows are full.",
        )
