"""The models by name: each meets the quotes that it was given, and one that cannot be fitted spoils nothing."""

from __future__ import annotations

import pytest
from option_chains import chain_of, points_of, ssvi

from features.errors import ConfigError
from features.surface import nonparametric
from features.surface.arbitrage import ArbitrageReport, Violation
from pipeline.surface_models import (
    MODELS,
    ModelFailure,
    ModelResult,
    arbitrage_counts,
    compare_models,
    fit_model,
    fit_timed,
)

POINTS = points_of(chain_of((7.0, 30.0, 90.0), ssvi, strikes=15, deviations=1.5, noise=0.0005))


@pytest.mark.parametrize("name", MODELS)
def test_each_is_called_by_its_name(name: str) -> None:
    report = fit_timed(name, POINTS).report
    assert report.model == name
    assert [fit.quotes for fit in report.expiries] == [15, 15, 15]


def test_an_unknown_one_names_those_that_are_there() -> None:
    with pytest.raises(ConfigError, match=r"no surface model 'bates'\. Known are svi, essvi, sabr, heston, nonp"):
        fit_model("bates", POINTS)


def test_the_grid_meets_quotes_without_arbitrage() -> None:
    """The noise of 5 bp is a tenth of a half spread: a surface without a formula lies inside all of them."""
    assert fit_model("nonparametric", POINTS).report.inside_share == 1.0


def test_noise_is_met_in_sample_and_not_out_of_it() -> None:
    results = [each for each in compare_models(POINTS, ("svi", "essvi")) if isinstance(each, ModelResult)]
    assert [each.model for each in results] == ["svi", "essvi"]
    for each in results:
        # Of 5 bp of noise a fit of 3 to 5 numbers to 15 quotes takes some; judged on others it adds its own error.
        assert 2.0 < each.surface.report.rmse_bp < 5.5
        assert 4.0 < each.held_out_bp < 9.0
        assert each.arbitrage.is_free


def test_one_that_cannot_be_fitted_says_why_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    # The simplex looks at its clock too seldom for a small programme.
    monkeypatch.setattr(nonparametric, "ATTEMPTS", (("highs-ipm", True),))
    for name in ("PATIENCE_S", "PATIENCE_A_QUOTE_S"):
        monkeypatch.setattr(nonparametric, name, 1e-9)
    results = list(compare_models(POINTS, ("nonparametric", "essvi")))
    assert [each.model for each in results] == ["nonparametric", "essvi"]
    assert isinstance(results[0], ModelFailure)
    assert "The linear programme of the surface gave up: Time limit reached" in results[0].problem
    assert isinstance(results[1], ModelResult)


def test_arbitrages_are_counted_by_the_way_that_finds_more() -> None:
    one = Violation("butterfly", 0.1, 0.0, 0.2)
    report = ArbitrageReport((), (one, one, Violation("vertical", 0.1, 0.0, 1.0)), None)
    assert arbitrage_counts(report) == {"butterfly": 2, "calendar": 0, "vertical": 1}
