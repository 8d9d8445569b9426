"""The catalogue: every feature once, computed by what it names, and hashed."""

from __future__ import annotations

import importlib
from dataclasses import replace

import pytest

from features import bar_kernels
from features.catalog import FEATURES, STANDARD, Catalogue
from features.declared import alternative, cross_asset, own_activity
from features.declared.alternative import zscore
from features.declared.windowed import FUNCTIONS, is_windowed, windowed
from features.errors import ConfigError
from features.feature import INTEGER, MINUTE, SECOND, Feature, window_name
from features.user_feature import UserFeature

EVERY = (*STANDARD.all, *own_activity.FEATURES)


def mean_of_two(inputs, state):  # type: ignore[no-untyped-def]
    return (inputs[0] + inputs[1]) / 2


def user_feature(name: str = "mine", inputs: tuple[str, ...] = ("mid", "microprice")) -> UserFeature:
    return UserFeature(Feature(name, "1", "mean", "either is null", inputs, "tests.mean_of_two"), mean_of_two)


def test_names_are_unique_and_say_their_window() -> None:
    names = [feature.name for feature in STANDARD.all]
    assert len(set(names)) == len(names)
    for feature in STANDARD.market:
        if is_windowed(feature) and feature.name != "variance_risk_premium":
            assert feature.name.endswith(f"_{window_name(feature.window_ns)}")


@pytest.mark.parametrize("feature", EVERY, ids=lambda feature: feature.name)
def test_a_declaration_is_complete_and_its_implementation_exists(feature: Feature) -> None:
    assert feature.unit
    assert feature.formula
    assert feature.null_when
    assert feature.inputs
    module, _, function = feature.implementation.rpartition(".")
    assert callable(getattr(importlib.import_module(module), function))


def test_kernels_compute_exactly_what_is_declared() -> None:
    windowed_names = {feature.name for feature in STANDARD.market if is_windowed(feature)}
    declared = {feature.name for feature in STANDARD.market if feature.dtype != INTEGER}
    assert len(set(bar_kernels.COLUMNS)) == len(bar_kernels.COLUMNS)
    assert set(bar_kernels.COLUMNS) | windowed_names == declared
    assert not set(bar_kernels.COLUMNS) & windowed_names


def test_every_row_of_the_issues_table_has_its_features() -> None:
    """One name, or the beginning of one, for everything that was asked for."""
    wanted = {
        "mid", "microprice", "weighted_mid", "spread_ticks", "spread_bps", "imbalance_1", "imbalance_5", "imbalance_10",
        "imbalance_20", "imbalance_weighted", "bid_depth_5bps", "ask_depth_50bps", "depth_share_25bps", "book_slope",
        "book_curvature", "order_flow_imbalance", "order_flow_imbalance_5", "bid_depletion", "quote_intensity",
        "book_age_s", "vwap", "volume", "notional", "trade_count", "signed_volume", "buy_share", "trade_intensity_10s",
        "vpin", "kyle_lambda_5m", "amihud_5m", "roll_spread_5m", "effective_spread_bps", "large_trade_share",
        "log_return", "realized_variance_1m", "bipower_variance_5m", "jump_share_5m", "upside_semivariance_5m",
        "downside_semivariance_5m", "two_scale_variance_5m", "parkinson_variance_5m", "garman_klass_variance_5m",
        "return_autocorrelation_5m", "drawdown_5m", "atm_iv_7d", "atm_iv_30d", "risk_reversal_25d", "butterfly_25d",
        "term_slope", "variance_risk_premium", "funding_rate", "basis_annualised", "open_interest_change_5m",
        "correlation_5m", "beta_5m", "atm_correlation_5m", "lead_lag_5m", "spread_dispersion", "sentiment",
        "sentiment_momentum", "topic_share_0", "news_intensity", "fees_z", "active_addresses_z", "fear_greed",
    }  # fmt: skip
    assert wanted <= {feature.name for feature in STANDARD.all}
    own = {"inventory", "average_cost", "realized_pnl", "unrealized_pnl", "turnover", "execution_cost_bps"}
    assert own <= {feature.name for feature in own_activity.FEATURES}


def test_the_hash_follows_every_word_of_a_declaration() -> None:
    assert STANDARD.hash == Catalogue().hash
    ours = Catalogue((user_feature(),))
    assert ours.hash != STANDARD.hash
    assert Catalogue((replace(user_feature(), source_hash="other code"),)).hash != ours.hash
    renamed = replace(user_feature().feature, formula="another")
    assert Catalogue((replace(user_feature(), feature=renamed),)).hash != ours.hash


def test_a_users_features_stand_behind_ours() -> None:
    longer = windowed("realized_variance", 30 * MINUTE)
    ours = Catalogue((longer, zscore("social_volume", observations=30), user_feature(inputs=("mid", longer.name))))
    assert ours.schema.names[-1] == "mine"
    assert set(ours.schema.names) - set(STANDARD.schema.names) == {longer.name, "social_volume_z", "mine"}
    assert ours.universe_schema.names[: len(ours.schema)] == ours.schema.names
    assert [f.name for f in ours.features][: len(STANDARD.market)] == [f.name for f in FEATURES][: len(STANDARD.market)]


def test_another_window_gives_another_name_and_formula() -> None:
    feature = windowed("open_interest_change", 10 * MINUTE)
    assert (feature.name, feature.window_ns) == ("open_interest_change_10m", 10 * MINUTE)
    assert "10m" in feature.formula
    assert "5m" not in feature.formula
    assert {windowed(each.rpartition(".")[2], MINUTE).implementation for each in FUNCTIONS} == set(FUNCTIONS)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ((user_feature("mid"),), "a column 'mid' already"),
        ((user_feature("bar_ts"),), "a column 'bar_ts' already"),
        ((user_feature("correlation_5m"),), "already"),
        ((user_feature(), user_feature()), "already"),
        ((user_feature(inputs=("nothing",)),), "reads ['nothing']"),
        ((user_feature(inputs=("correlation_5m",)),), "reads ['correlation_5m']"),
        ((Feature("x", "1", "y", "never", ("mid",), "my.function"),), "No function 'my.function'"),
    ],
)
def test_what_does_not_fit_is_refused(extra: tuple[UserFeature | Feature, ...], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        Catalogue(extra)
    assert said in str(error.value)


def test_an_unknown_window_is_refused_with_a_hint() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'realized_variance'"):
        windowed("realised_variance", MINUTE)
    with pytest.raises(ConfigError, match="none"):
        windowed("realized_variance", 0)


def test_windows_have_names() -> None:
    named = [window_name(each) for each in (10 * SECOND, MINUTE, 90 * SECOND, 60 * MINUTE, 1)]
    assert named == ["10s", "1m", "90s", "1h", "1ns"]
    assert all(f.name for f in (*alternative.FEATURES, *cross_asset.FEATURES))
