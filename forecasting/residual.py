"""Gradient-boosted trees on what the linear forecast of log variance leaves over.

Trees cannot extrapolate, so alone they fail in a crisis; the line extrapolates, and the trees correct it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from forecasting.inputs import RESIDUAL_INPUTS, Input, transform

Float = NDArray[np.float64]

MAX_TREES: Final = 200
STOP_AFTER: Final = 20
"""Trees without improvement on the held-out rows after which boosting stops."""


class ResidualTrees:
    """A LightGBM model of ``log y - HAR``.

    Inputs are centred at their training medians: LightGBM reads a NaN as 0 in a column that had none in training,
    and so it reads a typical value.

    Args:
        text: the model as LightGBM writes it.
        medians: of the transformed inputs (C).
        inputs: what is read, in this order.
    """

    def __init__(self, text: str, medians: Float, inputs: tuple[Input, ...] = RESIDUAL_INPUTS) -> None:
        self.text = text
        self.medians = medians
        self.inputs = inputs
        self._booster = lgb.Booster(model_str=text)

    @property
    def n_trees(self) -> int:
        """Their number."""
        return int(self._booster.num_trees())

    def predict(self, raw_NC: Float) -> Float:
        """``residual_N`` of raw columns; the same bits at any batch size."""
        if not len(raw_NC):
            return np.empty(0)
        x_NC = transform(raw_NC, self.inputs) - self.medians
        return np.asarray(self._booster.predict(x_NC, num_threads=1))


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Raw inputs and the residual of the line."""

    raw: Float  # NC
    residual: Float  # N
    inputs: tuple[Input, ...] = RESIDUAL_INPUTS  # C


def fit_trees(train: Rows, seed: int, *, stop: Rows | None = None, n_trees: int = MAX_TREES) -> ResidualTrees:
    """Boost the squared error of the residual.

    Args:
        train: rows to learn from.
        seed: of the columns that each tree may use.
        stop: rows after the training rows, purged; boosting stops when they do not improve.
        n_trees: number of trees, at most.
    """
    x_NC = transform(train.raw, train.inputs)
    medians = np.array([_median(column) for column in x_NC.T])
    data = lgb.Dataset(x_NC - medians, train.residual, params=_parameters(len(x_NC), seed))
    valid, callbacks = [], []
    if stop is not None:
        x_stop = transform(stop.raw, train.inputs) - medians
        valid = [lgb.Dataset(x_stop, stop.residual, reference=data)]
        callbacks = [lgb.early_stopping(STOP_AFTER, verbose=False)]
    booster = lgb.train(
        _parameters(len(x_NC), seed), data, num_boost_round=n_trees, valid_sets=valid, callbacks=callbacks
    )
    # Through its text at once: the model that is measured is the one that will be loaded.
    best = booster.best_iteration if stop is not None else -1
    return ResidualTrees(booster.model_to_string(num_iteration=best), medians, train.inputs)


def _parameters(n_rows: int, seed: int) -> dict[str, Any]:
    return {
        "objective": "regression",
        "learning_rate": 0.05,
        "num_leaves": 7,
        # Targets overlap, so neighbours are almost copies: a leaf needs many of them to hold a few facts.
        "min_data_in_leaf": max(20, n_rows // 25),
        "lambda_l2": 1.0,
        "feature_fraction": 0.7,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }


def _median(column: Float) -> float:
    known = column[~np.isnan(column)]
    return float(np.median(known)) if len(known) else 0.0
