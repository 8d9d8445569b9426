from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_recording import Lines, simulated

from features.errors import BadInputError
from pipeline.sources.base import Reject
from pipeline.sources.recording_lines import read_lines
from pipeline.sources.verify import BestQuotes, verify_book


def comparable_ids(path: Path) -> set[int]:
    """Update ids from the snapshot's on that a best quote names too, read without the project's decoder."""
    diffs: set[int] = set()
    quotes: set[int] = set()
    last_id = None
    for line in read_lines(path, lambda *_: None):
        message = json.loads(line.partition(b" ")[2])
        data = message.get("data", {})
        if "lastUpdateId" in message:
            last_id = message["lastUpdateId"]
        elif data.get("e") == "depthUpdate":
            diffs.add(data["u"])
        elif "B" in data:
            quotes.add(data["u"])
    assert last_id is not None
    return {u for u in (diffs | {last_id}) & quotes if u >= last_id}


@given(st.integers(0, 10**6), st.sampled_from(["usdm", "spot"]), st.sampled_from([0.0, 0.3, 30.0]))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_simulated_session_matches_at_every_comparable_id(
    tmp_path: Path, seed: int, market: str, resnapshot_s: float
) -> None:
    path = simulated(seed, 30, market).write(tmp_path)
    result = verify_book([path], resnapshot_s=resnapshot_s)
    assert result.mismatches == ()
    assert result.invalid == 0
    assert result.matched == result.compared == len(comparable_ids(path))
    assert result.ok


def test_a_wrong_level_is_found(tmp_path: Path) -> None:
    lines = Lines()
    lines.snapshot(0, 10, [("100.0", "1.000")], [("100.1", "2.000")])
    lines.diff(100, 10, 12, [("100.0", "3.000")])
    lines.ticker(101, 12, ("100.0", "3.001"), ("100.1", "2.000"))
    lines.diff(200, 12, 14, [("100.0", "4.000")])
    lines.ticker(201, 14, ("100.0", "4.000"), ("100.1", "2.000"))
    result = verify_book([lines.write(tmp_path)])
    assert (result.matched, result.compared, result.ok) == (1, 2, False)
    (mismatch,) = result.mismatches
    assert mismatch.update_id == 12
    assert mismatch.book == BestQuotes(1_000, 3_000, 1_001, 2_000)
    assert mismatch.venue == BestQuotes(1_000, 3_001, 1_001, 2_000)


def test_after_a_gap_the_book_is_invalid_and_never_compared(tmp_path: Path) -> None:
    path = simulated(3, 40, broken_at=20).write(tmp_path)
    rejects: list[Reject] = []
    result = verify_book([path], on_reject=rejects.append)
    assert result.matched == result.compared
    assert result.invalid == 1  # the diff that shows the gap; those behind it are held
    assert 10 < result.compared < 20
    assert [reject.reason for reject in rejects] == ["no_snapshot"]


def test_a_crossed_book_is_replayed_as_the_venue_sent_it(tmp_path: Path) -> None:
    lines = Lines()
    lines.snapshot(0, 10, [("100.0", "1.000")], [("100.1", "2.000")])
    lines.diff(100, 10, 12, [("100.2", "3.000")])
    lines.ticker(101, 12, ("100.2", "3.000"), ("100.1", "2.000"))
    assert verify_book([lines.write(tmp_path)]).ok


def test_nothing_compared_is_not_ok(tmp_path: Path) -> None:
    lines = Lines()
    lines.trade(0, 1, "100.0", "1.000", m=True)
    assert not verify_book([lines.write(tmp_path)]).ok


def test_several_instruments_are_checked_apart(tmp_path: Path) -> None:
    paths = [simulated(i, 20, symbol=symbol).write(tmp_path) for i, symbol in enumerate(("BTCUSDT", "ETHUSDT"))]
    result = verify_book(paths)
    assert set(result.instruments) == {"binance-usdm:BTCUSDT", "binance-usdm:ETHUSDT"}
    assert result.ok
    with pytest.raises(BadInputError):
        verify_book([tmp_path / "gone" / "usdm_btcusdt_1.gz"])


@pytest.mark.data
def test_real_books_match_at_every_comparable_id(recorded_data: Path) -> None:
    folder = recorded_data / "binance"
    result = verify_book(sorted(folder.glob("*.gz")))
    assert result.mismatches == ()
    assert result.invalid == 0
    compared = {name: check.compared for name, check in result.instruments.items()}
    eth = folder / "usdm_ethusdt_20240808.gz"
    assert compared["binance-usdm:ETHUSDT"] == len(comparable_ids(eth)) > 500
    assert result.matched == result.compared == sum(compared.values()) > 2_000
