"""Fit one model to several underlyings: which rows follow each other, and what is the same level in each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.errors import BadInputError
from regimes.features import Scaler, fit_scalers
from regimes.filter import HiddenMarkov
from regimes.hmm import HmmFit, fit_hmm

Float = NDArray[np.float64]
Integer = NDArray[np.int64]

ALIGNMENT_ROUNDS: Final = 3


@dataclass(frozen=True, slots=True, eq=False)
class PooledFit:
    """The model, the scalers that it belongs to, and the standardised rows of its last fit."""

    fit: HmmFit
    scalers: Mapping[str, Scaler]
    sequences: list[Float]


def fit_pooled(logs: Mapping[str, Float], bar_ts: Mapping[str, Integer], n_states: int, seed: int) -> PooledFit:
    """Fit, move each underlying's location to where its states agree with the common ones, and fit again.

    The mean of a window is a poor common level: an underlying that happened to be calm throughout would have its
    calm taken for the average. Given the states, the location has a maximum-likelihood estimate, so fit and
    alignment alternate (expectation conditional maximisation, Meng and Rubin 1993).

    Args:
        logs: underlying -> ``log_ND``, in the order of bars, NaN where unknown.
        bar_ts: underlying -> the ends of its bars.

    Raises:
        BadInputError: too few rows.
    """
    if not logs:
        raise BadInputError("There are no rows to fit regimes on.", "Pass universe rows.")
    scalers = fit_scalers(logs)
    rounds = ALIGNMENT_ROUNDS if len(logs) > 1 else 0
    for round_ in range(rounds + 1):
        own = {
            name: consecutive((log_ND - scalers[name].location) / scalers[name].scale, bar_ts[name])
            for name, log_ND in logs.items()
        }
        sequences = [x_TD for pieces in own.values() for x_TD in pieces]
        fit = fit_hmm(sequences, n_states, seed)
        if round_ < rounds:
            scalers = _aligned(scalers, {name: _offset(pieces, fit.markov) for name, pieces in own.items()})
    return PooledFit(fit, scalers, sequences)


def consecutive(x_ND: Float, bar_ts_N: Integer) -> list[Float]:
    """Split at rows with a NaN, which are dropped, and where a bar is missing."""
    known = np.asarray(np.isfinite(x_ND).all(axis=1))
    if not known.any():
        return []
    step = np.diff(bar_ts_N)
    # The shortest step is the interval of the bars.
    broken = ~known[:-1] | (step > step.min(initial=np.iinfo(np.int64).max))
    run_N = np.cumsum(np.append(True, broken))[known]
    return np.split(x_ND[known], np.flatnonzero(np.diff(run_N)) + 1)


def _offset(sequences: list[Float], markov: HiddenMarkov) -> Float:
    """Generalised least squares of ``x - mean[state]`` on a constant, weighted by the posterior of the states."""
    precision_KDD = np.linalg.inv(markov.covariance)
    left_DD, right_D = np.zeros(precision_KDD.shape[1:]), np.zeros(precision_KDD.shape[1])
    for x_TD in sequences:
        posterior_TK = markov.filter(x_TD)
        for k, precision_DD in enumerate(precision_KDD):
            weight_T = posterior_TK[:, k]
            left_DD += weight_T.sum() * precision_DD
            right_D += precision_DD @ (weight_T @ (x_TD - markov.mean[k]))
    return np.asarray(np.linalg.solve(left_DD, right_D))


def _aligned(scalers: Mapping[str, Scaler], offsets: Mapping[str, Float]) -> dict[str, Scaler]:
    """Only differences between underlyings count: their mean would move all states alike."""
    mean_D = np.mean(list(offsets.values()), axis=0)
    return {
        name: Scaler(scaler.location + (offsets[name] - mean_D) * scaler.scale, scaler.scale)
        for name, scaler in scalers.items()
    }
