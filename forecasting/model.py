"""The variance forecast: a log-HAR line, corrected by gradient-boosted trees as far as they proved themselves.

``variance = exp(har + weight * trees) * smearing``; the weight may be 0, and then both forecasts are the line.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from features.artifact import Manifest, load_artifact, save_artifact
from features.kernel import kernel
from forecasting.har import Har
from forecasting.inputs import RESIDUAL_INPUTS, VARIANCE_FLOOR_PER_S, Input

if TYPE_CHECKING:
    from forecasting.residual import ResidualTrees

Float = NDArray[np.float64]

KIND: Final = "forecast"
TREES: Final = "residual"
"""Name of the LightGBM text in the model's folder."""


@dataclass(frozen=True, slots=True, eq=False)
class ForecastModel:
    """Realized variance over the next ``horizon_bars`` bars, not annualized.

    Attributes:
        har_columns: regressors of the line.
        har: the line.
        trees: the correction of its logarithm; None where there is none.
        weight: of the correction, in [0, 1].
        smearing: of the corrected forecast.
        horizon_bars: bars that are forecast.
        horizon_s: the same in seconds.
        seed: of the fit.
        metrics: of the fit, out of sample.
        version: names the saved model in every row that it makes; empty before it is saved.
        inputs: what the trees read, or were offered where the line alone was better.
    """

    har_columns: tuple[str, ...]
    har: Har
    trees: ResidualTrees | None
    weight: float
    smearing: float
    horizon_bars: int
    horizon_s: float
    seed: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    version: str = ""
    inputs: tuple[Input, ...] = RESIDUAL_INPUTS

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a raw row, in order."""
        return all_columns(self.har_columns, self.inputs)

    @property
    def variance_floor(self) -> float:
        """The smallest realized variance that :func:`forecasting.evaluate.qlike` should count."""
        return variance_floor(self.horizon_s)

    def predict(self, raw_NC: Float) -> tuple[Float, Float]:
        """``variance_N`` and the line's own ``har_variance_N``; NaN where a regressor of the line is NaN.

        Other columns may be NaN. The bits of a row do not depend on the other rows.

        Args:
            raw_NC: ``features.rows.raw_rows(frame, model.columns)``.
        """
        log_N = self.har.log_forecast(raw_NC[:, : len(self.har_columns)])
        correction_N = np.zeros(len(log_N))
        if self.trees is not None and self.weight > 0.0:
            correction_N = self.trees.predict(residual_raw(raw_NC, self.har_columns, self.trees.inputs))
        return (
            _exponential(log_N, correction_N, self.weight, self.smearing),
            _exponential(log_N, correction_N, 0.0, self.har.smearing),
        )

    def save(self, folder: Path, *, catalogue: str, data: Mapping[str, Any]) -> Manifest:
        """Write the model folder; ``catalogue`` and ``data`` say on which features and rows it was fitted."""
        tensors = {"har_floors": self.har.floors, "har_coefficients": self.har.coefficients}
        return save_artifact(
            folder,
            kind=KIND,
            name=folder.name,
            catalogue=catalogue,
            seed=self.seed,
            settings={
                "har_columns": self.har_columns,
                "har_smearing": self.har.smearing,
                "smearing": self.smearing,
                "weight": self.weight,
                "horizon_bars": self.horizon_bars,
                "horizon_s": self.horizon_s,
                "inputs": [[each.column, each.transform, each.floor] for each in self.inputs],
            },
            metrics=self.metrics,
            data=data,
            tensors=tensors if self.trees is None else tensors | {"medians": self.trees.medians},
            texts={} if self.trees is None else {TREES: self.trees.text},
        )


def load_forecast(folder: Path, catalogue: str | None) -> ForecastModel:
    """Read a model folder.

    Raises:
        ArtifactError: it is missing, damaged, no forecast, or made for another catalogue.
    """
    artifact = load_artifact(folder, kind=KIND, catalogue=catalogue)
    settings, tensors = artifact.manifest.settings, artifact.tensors
    inputs = tuple(Input(*each) for each in settings["inputs"])
    trees = None
    if TREES in artifact.texts:
        from forecasting.residual import ResidualTrees  # LightGBM is slow to import, and a mere line does without

        trees = ResidualTrees(artifact.texts[TREES], tensors["medians"], inputs)
    return ForecastModel(
        har_columns=tuple(settings["har_columns"]),
        har=Har(tensors["har_floors"], tensors["har_coefficients"], settings["har_smearing"]),
        trees=trees,
        weight=settings["weight"],
        smearing=settings["smearing"],
        horizon_bars=settings["horizon_bars"],
        horizon_s=settings["horizon_s"],
        seed=artifact.manifest.seed,
        metrics=artifact.manifest.metrics,
        version=artifact.manifest.version,
        inputs=inputs,
    )


def variance_floor(horizon_s: float) -> float:
    """A market that hardly moved: what a target below it counts as."""
    return VARIANCE_FLOOR_PER_S * horizon_s


def all_columns(har_columns: tuple[str, ...], inputs: tuple[Input, ...]) -> tuple[str, ...]:
    """The line's regressors, then what else the trees read."""
    return har_columns + tuple(each.column for each in inputs if each.column not in har_columns)


def residual_raw(raw_NC: Float, har_columns: tuple[str, ...], inputs: tuple[Input, ...]) -> Float:
    """The trees' inputs in their order, out of rows in the order of :func:`all_columns`."""
    columns = all_columns(har_columns, inputs)
    return raw_NC[:, [columns.index(each.column) for each in inputs]]


@kernel
def _exponential(log_N: Any, correction_N: Any, weight: float, smearing: float) -> Any:
    out = np.empty(len(log_N))
    for i in range(len(log_N)):
        out[i] = math.exp(log_N[i] + weight * correction_N[i]) * smearing
    return out
