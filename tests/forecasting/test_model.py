"""The forecast: sees no future, keeps its bits, trusts the trees only as far as they proved themselves."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from universe_rows import START, universe_rows

from features.catalog import catalogue_hash
from features.errors import ArtifactError, BadInputError, ConfigError
from features.rows import raw_rows
from forecasting.evaluate import qlike
from forecasting.fit import fit_forecast
from forecasting.model import ForecastModel, load_forecast
from forecasting.target import realized_variance_ahead

HAR = ("realized_variance_10s", "realized_variance_1m")
HORIZON = 10
ROWS, TRUTH = universe_rows(2400, seed=14)
TRAIN = ROWS.head(2 * 1200)


def fitted(frame: pl.DataFrame, seed: int = 0) -> ForecastModel:
    return fit_forecast(frame, horizon_bars=HORIZON, har_columns=HAR, seed=seed)


MODEL = fitted(TRAIN)


def losses(model: ForecastModel, frame: pl.DataFrame) -> tuple[float, float, float]:
    """QLIKE of the forecast, of the line and of the training rows' mean variance."""
    y = realized_variance_ahead(frame, HORIZON)
    variance, har = model.predict(raw_rows(frame, model.columns))
    known = ~np.isnan(y) & ~np.isnan(har)
    constant = np.full(len(y), np.nanmean(realized_variance_ahead(TRAIN, HORIZON)))
    return tuple(  # type: ignore[return-value]
        float(qlike(y[known], f[known], model.variance_floor).mean()) for f in (variance, har, constant)
    )


def test_trees_beat_the_line_and_the_line_a_constant_out_of_sample() -> None:
    """In this market spread and depth show the regime at once, which realized variance learns late."""
    assert MODEL.trees is not None
    assert MODEL.metrics["qlike_forecast"] < MODEL.metrics["qlike_har"]
    assert MODEL.metrics["diebold_mariano_t"] < -1.0
    forecast, har, constant = losses(MODEL, ROWS.tail(2 * 1200))
    assert forecast < har < 0.75 * constant


def test_forecasts_are_in_the_unit_of_the_target() -> None:
    y = realized_variance_ahead(TRAIN, HORIZON)
    _, har = MODEL.predict(raw_rows(TRAIN, MODEL.columns))
    known = ~np.isnan(y) & ~np.isnan(har)
    assert float(np.mean(y[known] / har[known])) == pytest.approx(1.0, rel=1e-6)
    assert MODEL.horizon_s == 10.0
    assert MODEL.variance_floor == pytest.approx(1e-9)


def test_noise_is_not_trusted() -> None:
    """Trees on columns that say nothing: the weight goes to 0, or the loss stays near that of the line."""
    rng = np.random.default_rng(0)
    names = [name for name in MODEL.columns if "variance" not in name and name not in ("log_return", "trade_count")]
    kept = 0
    for seed in range(6):
        rows, _ = universe_rows(2400, seed=seed)
        noise = (pl.Series(name, np.abs(rng.standard_normal(rows.height))) for name in names)
        noisy = rows.with_columns(*noise, trade_count=pl.lit(3))
        model = fitted(noisy.head(2 * 1200))
        kept += model.weight > 0.0
        forecast, har, _ = losses(model, noisy.tail(2 * 1200))
        assert forecast < har + 0.02
        if model.weight == 0.0:
            assert model.trees is None
            assert forecast == har
    assert kept < 6


def test_no_look_ahead() -> None:
    """Neither a forecast nor a fit changes with what comes after it."""
    cut = START + 1200 * 1_000_000_000
    shocked = ROWS.with_columns(
        pl.when(pl.col("bar_ts") > cut).then(pl.col(name) * 50.0).otherwise(pl.col(name)).alias(name)
        for name in ("log_return", "spread_bps", "realized_variance_10s", "realized_variance_1m")
    )
    before = shocked.filter(pl.col("bar_ts") <= cut)
    assert before.equals(TRAIN)
    for ours, theirs in zip(_bits(MODEL, TRAIN), _bits(MODEL, shocked), strict=True):
        assert theirs.startswith(ours)
    # A training row near the end must not know returns after the window: its target is unknown there.
    assert np.isnan(realized_variance_ahead(TRAIN, HORIZON)[-2 * HORIZON :]).all()
    assert MODEL.metrics["rows"] == 2 * (1200 - 60 - HORIZON)


def _bits(model: ForecastModel, frame: pl.DataFrame) -> list[bytes]:
    return [column.tobytes() for column in model.predict(raw_rows(frame, model.columns))]


def test_same_bits_at_any_batch_and_from_any_order_of_the_frame() -> None:
    raw = raw_rows(ROWS.head(400), MODEL.columns)
    whole = MODEL.predict(raw)
    one_by_one = [MODEL.predict(raw[i : i + 1]) for i in range(len(raw))]
    for column, values in enumerate(whole):
        assert np.concatenate([row[column] for row in one_by_one]).tobytes() == values.tobytes()
    shuffled = fitted(TRAIN.sample(fraction=1.0, shuffle=True, seed=1))
    assert _bits(shuffled, ROWS) == _bits(MODEL, ROWS)


def test_unknown_regressors_give_unknown_forecasts_and_other_columns_do_not() -> None:
    raw = raw_rows(ROWS.slice(200, 1), MODEL.columns)
    for c, column in enumerate(MODEL.columns):
        changed = raw.copy()
        changed[0, c] = math.nan
        variance, har = MODEL.predict(changed)
        assert np.isnan(variance[0]) == np.isnan(har[0]) == (column in HAR)
    assert [len(column) for column in MODEL.predict(raw[:0])] == [0, 0]


def test_save_and_load(tmp_path: Path) -> None:
    manifest = MODEL.save(tmp_path / "forecast", catalogue=catalogue_hash(), data={"rows": TRAIN.height})
    loaded = load_forecast(tmp_path / "forecast", catalogue_hash())
    assert loaded.version == manifest.version
    assert loaded.columns == MODEL.columns
    assert loaded.metrics["qlike_har"] == MODEL.metrics["qlike_har"]
    assert (loaded.horizon_s, loaded.horizon_bars) == (10.0, HORIZON)
    assert _bits(loaded, ROWS) == _bits(MODEL, ROWS)
    with pytest.raises(ArtifactError, match="fitted on features"):
        load_forecast(tmp_path / "forecast", "another")
    text = tmp_path / "forecast" / "residual.txt"
    text.write_text(text.read_text().replace("leaf_value=", "leaf_value=1", 1))
    with pytest.raises(ArtifactError, match="damaged"):
        load_forecast(tmp_path / "forecast", catalogue_hash())


def test_short_demo_gets_a_line_and_less_is_refused(tmp_path: Path) -> None:
    short = fitted(ROWS.head(2 * 150))
    assert short.trees is None
    assert short.metrics["rows"] == 2 * (150 - 60 - HORIZON)
    variance, har = short.predict(raw_rows(ROWS, short.columns))
    assert variance.tobytes() == har.tobytes()
    short.save(tmp_path / "line", catalogue=catalogue_hash(), data={})
    assert _bits(load_forecast(tmp_path / "line", None), ROWS) == _bits(short, ROWS)
    with pytest.raises(BadInputError, match=r"20 of 160 rows.*longer window"):
        fitted(ROWS.head(2 * 80))
    with pytest.raises(BadInputError, match="0 of 0 rows"):
        fitted(ROWS.head(0))
    with pytest.raises(ConfigError, match="spread_bps"):
        fit_forecast(ROWS, horizon_bars=HORIZON, har_columns=("spread_bps",))


def test_the_line_loads_no_lightgbm_and_fitting_is_fast() -> None:
    heavy = ("lightgbm", "sklearn", "polars", "torch")
    code = f"import sys, forecasting.model; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    began = time.process_time()
    fitted(TRAIN)
    assert time.process_time() - began < 5.0
