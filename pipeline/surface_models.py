"""The surface models by name, and all of them on one chain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from features import surface as surfaces
from features.errors import BadInputError, ConfigError
from features.surface.arbitrage import ArbitrageReport, check_arbitrage
from features.surface.cleaning import Points
from features.surface.held_out import every_other, rmse_bp, some_of
from features.surface.model import Surface

MODELS: Final = ("svi", "essvi", "sabr", "heston", "nonparametric", "streamed")
KINDS: Final = ("butterfly", "calendar", "vertical")


def fit_model(name: str, points: Points) -> Surface:
    """The surface of a model.

    Raises:
        ConfigError: there is no such model.
        BadInputError: the quotes cannot be fitted.
    """
    if name not in MODELS:
        raise ConfigError(f"There is no surface model {name!r}.", f"Known are {', '.join(MODELS)}.")
    fitted: Surface = getattr(surfaces, f"fit_{name}")(points)
    return fitted


def fit_timed(name: str, points: Points) -> Surface:
    """The same, its time without that of compiling or loading kernels: the first expiry was fitted before."""
    fit_model(
        name, some_of(points, points.expiry_E.repeat(points.start_F[1:] - points.start_F[:-1]) == points.expiry_E[0])
    )
    return fit_model(name, points)


@dataclass(frozen=True, slots=True)
class ModelResult:
    """What one model makes of a chain.

    Args:
        model: its name.
        surface: fitted to all points.
        arbitrage: found in it.
        held_out_bp: RMSE in basis points of volatility on the points that another fit had not seen.
    """

    model: str
    surface: Surface
    arbitrage: ArbitrageReport
    held_out_bp: float


@dataclass(frozen=True, slots=True)
class ModelFailure:
    """A model that could not be fitted.

    Args:
        model: its name.
        problem: why, and what to do.
    """

    model: str
    problem: str


def compare_models(points: Points, models: Iterable[str] = MODELS) -> Iterator[ModelResult | ModelFailure]:
    """Every model on the same points, as they come.

    Out of sample: fitted to the first, third ... quote of every expiry, judged on those in between. That fit comes
    first, so that the time of the whole one is without compiling.
    """
    seen, unseen = every_other(points)
    for name in models:
        try:
            held_out = rmse_bp(fit_model(name, seen), unseen)
            surface = fit_model(name, points)
        except BadInputError as error:
            yield ModelFailure(name, str(error))
            continue
        yield ModelResult(name, surface, check_arbitrage(surface), held_out)


def arbitrage_counts(report: ArbitrageReport) -> dict[str, int]:
    """By kind; what is unknown near the money where there is some."""
    found = {kind: report.count(kind) for kind in KINDS}
    unknown = report.count("unknown")
    return found | {"unknown": unknown} if unknown else found
