"""Fit the hidden Markov model: hmmlearn's EM with sticky transitions, several starts, states ordered by volatility.

Only a fit imports this file: hmmlearn and scikit-learn are slow to load. Filtering is ours (``regimes/filter.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from hmmlearn.base import ConvergenceMonitor
from hmmlearn.hmm import GaussianHMM
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from features.errors import BadInputError
from regimes.filter import HiddenMarkov
from regimes.kmeans import fit_kmeans

Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FitConfig:
    """How the EM is run.

    Attributes:
        restarts: starts of the EM; the best posterior density wins.
        max_iterations: of one EM run.
        tolerance_per_row: improvement of the objective, in nats a row, below which EM has converged.
        stay_rows: pseudo-observed rows in which a state stayed (Fox et al. 2011, the sticky idea, as a Dirichlet).
        switch_rows: pseudo-observed switches from each state to each other; so none becomes impossible.
        covariance_rows: weight of the prior covariance (a multiple of the identity), in rows.
        covariance_prior: its variance, in the unit of standardised observations.
    """

    restarts: int = 6
    max_iterations: int = 200
    tolerance_per_row: float = 1e-6
    stay_rows: float = 100.0
    switch_rows: float = 1.0
    covariance_rows: float = 30.0
    covariance_prior: float = 1.0


@dataclass(frozen=True, slots=True)
class HmmFit:
    """The best fit and how the fitting went; ``objective`` is its log likelihood plus the logarithm of the priors."""

    markov: HiddenMarkov
    objective: float
    log_likelihood_per_row: float
    converged: bool
    iterations: int
    restarts_converged: int


MIN_ROWS_PER_STATE: Final = 30


def fit_hmm(sequences: list[Float], n_states: int, seed: int, config: FitConfig | None = None) -> HmmFit:
    """Maximise the likelihood times the priors of :class:`FitConfig`.

    Args:
        sequences: standardised rows ``x_TD`` without NaN; the chain starts anew in each. The first column orders the
            states.

    Raises:
        BadInputError: too few rows for so many states.
    """
    config = config or FitConfig()
    x_ND, lengths = np.concatenate(sequences), [len(x_TD) for x_TD in sequences]
    if len(x_ND) < MIN_ROWS_PER_STATE * n_states:
        raise BadInputError(
            f"{len(x_ND)} usable rows for {n_states} states; {MIN_ROWS_PER_STATE} a state are needed.",
            "Fit on a longer window, or on fewer states.",
        )
    rng = np.random.default_rng(seed)
    # One thread: BLAS splits its sums by the number of threads, and the bits would follow.
    with threadpool_limits(1):
        runs = [_run(x_ND, lengths, start, config) for start in _starts(x_ND, n_states, config.restarts, rng)]
    model, monitor = max(runs, key=lambda run: run[1].objective)
    order = np.argsort(model.means_[:, 0])
    markov = HiddenMarkov(
        np.ascontiguousarray(model.transmat_[np.ix_(order, order)]),
        np.ascontiguousarray(model.means_[order]),
        np.ascontiguousarray(model.covars_[order]),
    )
    return HmmFit(
        markov=markov,
        objective=monitor.objective,
        log_likelihood_per_row=monitor.history[-1] / len(x_ND),
        converged=monitor.settled,
        iterations=monitor.iter,
        restarts_converged=sum(run[1].settled for run in runs),
    )


class _Monitor(ConvergenceMonitor):
    """Stops on the objective that the priors belong to.

    hmmlearn watches the likelihood alone, which may fall when a prior pulls, logs that as a failure to converge, and
    takes the largest number of iterations for convergence.
    """

    def __init__(self, model: Any, n_rows: int, config: FitConfig) -> None:
        super().__init__(config.tolerance_per_row * n_rows, config.max_iterations, False)
        self._model = model
        self.objective = -np.inf
        self.settled = False

    def report(self, log_prob: float) -> None:
        """Called after each M step with the likelihood before it."""
        self.history.append(log_prob)
        self.iter += 1
        # The likelihood is that of the parameters before the M step; so is the prior that goes with it.
        objective = log_prob + self._model.log_prior_before
        self.settled = objective - self.objective < self.tol
        self.objective = objective

    @property
    def converged(self) -> bool:
        """Whether to stop; ``GaussianHMM.fit`` ends by itself after the last iteration."""
        return self.settled


class _StickyHMM(GaussianHMM):
    """GaussianHMM that keeps the logarithm of the priors at the parameters of the E step."""

    log_prior_before = 0.0

    def _do_mstep(self, stats: Any) -> None:
        self.log_prior_before = float(((self.transmat_prior - 1.0) * np.log(self.transmat_)).sum())
        inverse = np.linalg.inv(self.covars_)
        rows = self.covars_weight - self.means_.shape[1]
        traces = np.trace(self.covars_prior @ inverse, axis1=1, axis2=2)
        self.log_prior_before += -0.5 * float((rows * np.linalg.slogdet(self.covars_)[1] + traces).sum())
        super()._do_mstep(stats)


def _run(
    x_ND: Float, lengths: list[int], start: tuple[Float, Float, Float], config: FitConfig
) -> tuple[_StickyHMM, _Monitor]:
    k, d = start[0].shape
    prior_KK = np.full((k, k), 1.0 + config.switch_rows)
    np.fill_diagonal(prior_KK, 1.0 + config.stay_rows)
    model = _StickyHMM(
        k,
        covariance_type="full",
        transmat_prior=prior_KK,
        means_weight=1e-6,  # only so that a state without rows stays a number
        covars_prior=config.covariance_rows * config.covariance_prior * np.eye(d),
        covars_weight=config.covariance_rows + d,  # hmmlearn subtracts the dimension
        n_iter=config.max_iterations,
        params="tmc",
        init_params="",
    )
    model.means_, model.covars_, model.transmat_ = start
    model.startprob_ = np.full(k, 1.0 / k)
    model.monitor_ = _Monitor(model, len(x_ND), config)
    model.fit(x_ND, lengths)
    return model, model.monitor_


def _starts(x_ND: Float, n_states: int, restarts: int, rng: np.random.Generator) -> list[tuple[Float, Float, Float]]:
    """Equal parts by volatility first, K-Means clusters second, then random rows: their groups' moments."""
    starts = []
    for restart in range(restarts):
        if restart == 0:
            rank = np.argsort(np.argsort(x_ND[:, 0], kind="stable"), kind="stable")
            label = rank * n_states // len(x_ND)
        else:
            if restart == 1:
                centre_KD = fit_kmeans(x_ND, n_states, int(rng.integers(2**31)))
            else:
                centre_KD = x_ND[rng.choice(len(x_ND), n_states, replace=False)]
            label = ((x_ND[:, None, :] - centre_KD[None]) ** 2).sum(axis=2).argmin(axis=1)
        starts.append(_moments_by_label(x_ND, label, n_states))
    return starts


def _moments_by_label(x_ND: Float, label_N: NDArray[np.int64], n_states: int) -> tuple[Float, Float, Float]:
    d = x_ND.shape[1]
    mean_KD, covariance_KDD = np.empty((n_states, d)), np.empty((n_states, d, d))
    for k in range(n_states):
        own = x_ND[label_N == k]
        mean_KD[k] = own.mean(axis=0) if len(own) else 0.0
        centred = own - mean_KD[k]
        # One pseudo-row of unit variance, so that a small group is no spike.
        covariance_KDD[k] = (centred.T @ centred + np.eye(d)) / (len(own) + 1.0)
    stay = 0.95
    transition_KK = np.full((n_states, n_states), (1.0 - stay) / (n_states - 1))
    np.fill_diagonal(transition_KK, stay)
    return mean_KD, covariance_KDD, transition_KK
