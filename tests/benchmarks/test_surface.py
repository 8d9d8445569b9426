"""The surface's benchmark in its shortest form, on chains whose answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from option_chains import NOW_NS, chain_of, ssvi

from benchmarks import peers, surface_speed
from benchmarks.deribit_chains import Chain
from benchmarks.surface_fits import BUCKETS_D, Track, scores
from benchmarks.surface_plot import plot_track

pytestmark = pytest.mark.xdist_group("benchmarks")  # they measure: not beside each other


@pytest.fixture(scope="module")
def chain() -> Chain:
    """A surface without arbitrage, with marks that are right."""
    columns = chain_of([2, 9, 30, 120], ssvi, strikes=15)
    years = (columns["expiry_ns"] - NOW_NS) / (365 * 86_400 * 10**9)
    mark = ssvi(np.log(columns["strike"] / columns["forward"]), years)
    return Chain("BTC", NOW_NS, **columns, mark_volatility=mark)


def test_models_of_the_right_family_meet_what_they_were_not_shown(chain: Chain) -> None:
    found, rules = scores([chain], ["svi", "essvi", "sabr", "streamed"])
    assert rules["used"] > 50
    for name, score in found.items():
        result = score.result()
        assert result["inside_share"] > (0.95 if name != "sabr" else 0.5), name
        assert len(result["in_bp_by_bucket"]) == len(BUCKETS_D)
    assert found["essvi"].rmse_bp("out") < 1.0
    assert found["svi"].rmse_bp("out") < 5.0
    for name in ("essvi", "streamed"):
        result = found[name].result()
        assert (result["violations"], result["free_snapshots"], result["quotes_without_volatility"]) == ({}, 1, 0)


def test_the_streamed_surface_is_beside_the_mark(chain: Chain, tmp_path: Path) -> None:
    track = Track()
    for _ in range(2):
        track.take(chain)
        track.take(chain._replace(coin="ETH"))
    for row in track.rows:
        assert row["atm_iv_30d"] == pytest.approx(row["mark_atm_iv_30d"], abs=2e-3)
        assert row["risk_reversal_25d"] == pytest.approx(row["mark_risk_reversal_25d"], abs=5e-3)
        assert row["mid_risk_reversal_25d"] == pytest.approx(row["mark_risk_reversal_25d"], abs=1e-4)
        assert row["mark_place_25d_call"] == pytest.approx(0.5, abs=0.01)
        assert row["is_free"]
    plot_track(track.rows, tmp_path / "track.png")
    assert (tmp_path / "track.png").stat().st_size > 20_000


def test_speed_without_the_peers_has_no_ratio(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(peers, "ENVIRONMENT", tmp_path / "absent")
    monkeypatch.setattr(surface_speed, "OPTIONS", 2_000)
    monkeypatch.setattr(surface_speed, "RECORDED", tmp_path / "absent")
    found = surface_speed.measure(quick=True)
    assert found["ratio"] is None
    assert found["checks"]["easy ours"]["error"] < 1e-11
    assert found["checks"]["84 quotes"]["rmse_bp"] < 60
    assert all(seconds > 0 for seconds in found["seconds"].values())
    surface_speed.show_speed(found)
