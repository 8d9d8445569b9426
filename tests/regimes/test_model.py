"""The regime model: finds the regimes of a made-up market, live as in batch, and comes back from disk to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from universe_rows import universe_rows

from features.catalog import catalogue_hash
from features.errors import ArtifactError, BadInputError
from features.rows import raw_rows
from features.signals import REGIMES
from regimes.evaluate import balanced_accuracy, switches_per_1000
from regimes.model import RegimeModel, fit_regimes, load_regimes

ROWS, TRUTH = universe_rows(2000, seed=3)
TRAIN = ROWS.head(2 * 1000)
MODEL = fit_regimes(TRAIN, seed=0)


def test_finds_the_regimes_out_of_sample() -> None:
    test, truth = ROWS.tail(2 * 1000), TRUTH[2 * 1000 :]
    posterior, kmeans = MODEL.posterior(test)
    label = posterior.argmax(axis=1)
    assert balanced_accuracy(truth, label) > 0.93
    assert balanced_accuracy(truth, kmeans) > 0.93
    btc = (test["underlying"] == "BTC").to_numpy()
    assert switches_per_1000(label[btc]) < switches_per_1000(kmeans[btc])


def test_states_are_ordered_by_volatility() -> None:
    assert len(REGIMES) == MODEL.n_states == 3
    assert (np.diff(MODEL.markov.mean[:, 0]) > 0).all()
    assert (np.diff(MODEL.centroids[:, 0]) > 0).all()
    label = MODEL.posterior(ROWS)[0].argmax(axis=1)
    levels = [ROWS.filter(pl.Series(label == k))["realized_variance_1m"].median() for k in range(3)]
    assert levels == sorted(levels)  # type: ignore[type-var]


def test_live_rows_have_the_bits_of_the_batch() -> None:
    posterior, kmeans = MODEL.posterior(ROWS)
    for underlying in ("BTC", "ETH"):
        own = (ROWS["underlying"] == underlying).to_numpy()
        raw = raw_rows(ROWS.filter(pl.Series(own)), MODEL.columns)
        state, live, labels = MODEL.init(), [], []
        for row in raw:
            x = MODEL.observe(row, underlying)
            state = MODEL.update(state, x)
            live.append(state)
            labels.append(MODEL.kmeans(x))
        assert np.array(live).tobytes() == posterior[own].tobytes()
        np.testing.assert_array_equal(labels, kmeans[own])


def test_unknown_rows() -> None:
    """The first ten bars have no realized variance: the posterior stays where it began, K-Means says unknown."""
    posterior, kmeans = MODEL.posterior(ROWS.head(2 * 10))
    np.testing.assert_allclose(posterior, np.tile(MODEL.init(), (20, 1)), atol=1e-12)
    assert (kmeans == -1).all()


def test_the_fit_does_not_depend_on_the_order_of_the_frame_nor_on_level() -> None:
    def fitted(frame: pl.DataFrame) -> RegimeModel:
        return fit_regimes(frame, seed=0)

    shuffled = fitted(TRAIN.sample(fraction=1.0, shuffle=True, seed=1))
    assert shuffled.markov.mean.tobytes() == MODEL.markov.mean.tobytes()
    assert shuffled.centroids.tobytes() == MODEL.centroids.tobytes()
    wider = TRAIN.with_columns(pl.col("spread_bps") * pl.when(pl.col("underlying") == "ETH").then(8.0).otherwise(1.0))
    np.testing.assert_allclose(fitted(wider).markov.mean, MODEL.markov.mean, atol=1e-2)


def test_rows_after_the_training_window_do_not_matter() -> None:
    changed = ROWS.with_columns(
        pl.when(pl.col("bar_ts") > TRAIN["bar_ts"].max()).then(9.0).otherwise(pl.col("spread_bps")).alias("spread_bps")
    )
    again = fit_regimes(changed.head(2 * 1000), seed=0)
    assert again.markov.mean.tobytes() == MODEL.markov.mean.tobytes()
    before = MODEL.posterior(ROWS)[0][: 2 * 1000]
    assert MODEL.posterior(changed)[0][: 2 * 1000].tobytes() == before.tobytes()


def test_unknown_rows_and_missing_bars_end_sequences() -> None:
    btc = TRAIN.filter(underlying="BTC")
    whole = fit_regimes(btc, seed=0).metrics
    holes = btc.with_row_index().with_columns(
        pl.when(pl.col("index").is_in([300, 301, 500])).then(None).otherwise(pl.col("spread_bps")).alias("spread_bps")
    )
    cut = fit_regimes(holes.filter(pl.col("index") != 700), seed=0).metrics
    assert (whole["rows"], whole["sequences"]) == (990, 1)
    assert (cut["rows"], cut["sequences"]) == (986, 4)


def test_short_demo_is_enough_and_less_is_refused() -> None:
    assert fit_regimes(ROWS.head(2 * 150), seed=0).metrics["rows"] == 280
    with pytest.raises(BadInputError, match="BTC has 20 of 30 rows"):
        fit_regimes(ROWS.head(2 * 30))
    with pytest.raises(BadInputError, match="no rows"):
        fit_regimes(ROWS.head(0))


def test_an_underlying_that_was_not_fitted() -> None:
    with pytest.raises(BadInputError, match=r"'SOL'.*\['BTC', 'ETH'\]"):
        MODEL.observe(np.zeros(len(MODEL.columns)), "SOL")


def test_save_and_load(tmp_path: Path) -> None:
    manifest = MODEL.save(tmp_path / "regimes", catalogue=catalogue_hash(), data={"rows": TRAIN.height})
    loaded = load_regimes(tmp_path / "regimes", catalogue_hash())
    assert loaded.version == manifest.version
    assert loaded.columns == MODEL.columns
    assert loaded.metrics["converged"] == 1.0
    for ours, theirs in zip(MODEL.posterior(ROWS), loaded.posterior(ROWS), strict=True):
        assert ours.tobytes() == theirs.tobytes()
    with pytest.raises(ArtifactError, match="fitted on features"):
        load_regimes(tmp_path / "regimes", "another")
    file = tmp_path / "regimes" / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ArtifactError, match="damaged"):
        load_regimes(tmp_path / "regimes", catalogue_hash())
