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
from regimes.hmm import FitConfig, HmmFit, fit_hmm

Float = NDArray[np.float64]
Integer = NDArray[np.int64]

ALIGNMENT_ROUNDS: Final = 2
"""Fits, each followed by a move of the locations, from every start of the alignment."""

ALIGNMENT_RESTARTS: Final = 2
"""Starts of the EM in each of them; the fit that counts comes last and has all."""

TAIL: Final = 0.2
"""Share of the calmest, or of the most stressed, rows of an underlying that a start takes for one level."""


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
    alignment alternate (expectation conditional maximisation, Meng and Rubin 1993), from several starts: one
    underlying's calm can lie on another's stress and stay there, but the likelihood is smaller.

    Args:
        logs: underlying -> ``log_ND``, in the order of bars, NaN where unknown.
        bar_ts: underlying -> the ends of its bars.

    Raises:
        BadInputError: too few rows.
    """
    if not logs:
        raise BadInputError("There are no rows to fit regimes on.", "Pass universe rows.")
    scalers: Mapping[str, Scaler] = fit_scalers(logs)
    if len(logs) > 1:
        aligned = [_alignment(logs, bar_ts, start, n_states, seed) for start in _starts(logs, scalers)]
        scalers = _centred(logs, max(aligned, key=lambda each: each[1])[0])
    own = _standardised(logs, bar_ts, scalers)
    sequences = [x_TD for pieces in own.values() for x_TD in pieces]
    return PooledFit(fit_hmm(sequences, n_states, seed), scalers, sequences)


def _alignment(
    logs: Mapping[str, Float],
    bar_ts: Mapping[str, Integer],
    scalers: Mapping[str, Scaler],
    n_states: int,
    seed: int,
) -> tuple[Mapping[str, Scaler], float]:
    """The scalers to which a start leads, and how well one model fits them."""
    config = FitConfig(restarts=ALIGNMENT_RESTARTS)
    objective = -np.inf
    for round_ in range(ALIGNMENT_ROUNDS + 1):
        own = _standardised(logs, bar_ts, scalers)
        fit = fit_hmm([x_TD for pieces in own.values() for x_TD in pieces], n_states, seed, config)
        objective = fit.objective
        if round_ < ALIGNMENT_ROUNDS:
            scalers = _moved(scalers, {name: _offset(pieces, fit.markov) for name, pieces in own.items()})
    return scalers, objective


def _starts(logs: Mapping[str, Float], scalers: Mapping[str, Scaler]) -> list[dict[str, Scaler]]:
    """Equal means; equal calm; equal stress. The scale is the same in all, so that their likelihoods compare."""
    known = {name: log_ND[~np.isnan(log_ND).any(axis=1)] for name, log_ND in logs.items()}
    ordered = {name: rows[np.argsort(rows[:, 0], kind="stable")] for name, rows in known.items()}
    tail = {name: max(1, int(TAIL * len(rows))) for name, rows in ordered.items()}
    levels = (
        {name: scaler.location for name, scaler in scalers.items()},
        {name: rows[: tail[name]].mean(axis=0) for name, rows in ordered.items()},
        {name: rows[-tail[name] :].mean(axis=0) for name, rows in ordered.items()},
    )
    return [{name: Scaler(level[name], scaler.scale) for name, scaler in scalers.items()} for level in levels]


def _standardised(
    logs: Mapping[str, Float], bar_ts: Mapping[str, Integer], scalers: Mapping[str, Scaler]
) -> dict[str, list[Float]]:
    return {
        name: consecutive((log_ND - scalers[name].location) / scalers[name].scale, bar_ts[name])
        for name, log_ND in logs.items()
    }


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


def _moved(scalers: Mapping[str, Scaler], offsets: Mapping[str, Float]) -> dict[str, Scaler]:
    """Only differences between underlyings count: their mean would move all states alike."""
    mean_D = np.mean(list(offsets.values()), axis=0)
    return {
        name: Scaler(scaler.location + (offsets[name] - mean_D) * scaler.scale, scaler.scale)
        for name, scaler in scalers.items()
    }


def _centred(logs: Mapping[str, Float], scalers: Mapping[str, Scaler]) -> dict[str, Scaler]:
    """The same alignment, with mean 0 and standard deviation 1 (less, where the scale has its floor) of all rows."""
    aligned = np.concatenate([log_ND - scalers[name].location for name, log_ND in logs.items()])
    middle = fit_scalers({"all": aligned})["all"]
    return {name: Scaler(scaler.location + middle.location, middle.scale) for name, scaler in scalers.items()}
