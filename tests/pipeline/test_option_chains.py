"""One chain at a time: what a recording and a lake say of a moment, and errors that name the remedy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from chain_files import MINUTE_NS, TAKEN_NS, TICK, recorded_rows, small_chain, write_chains, write_lake
from object_store import needs_object_store
from tiny_lake import append_rows

from features.errors import BadInputError, ConfigError
from features.surface.cleaning import counts_of
from pipeline.lake_errors import LakeError
from pipeline.lake_location import LakeLocation
from pipeline.option_chains import OptionChain, read_chain

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "data" / "deribit_options"
COLUMNS = ("expiry_ns", "strike", "is_call", "bid", "ask", "forward", "quoted_ns", "mark_volatility")


def ordered(chain: OptionChain) -> OptionChain:
    """By expiry, strike and kind."""
    order = np.lexsort((chain.is_call, chain.strike, chain.expiry_ns))
    return replace(chain, **{name: getattr(chain, name)[order] for name in COLUMNS})


class TestRecording:
    def test_the_last_chain_comes_back_as_it_was_written(self, tmp_path: Path) -> None:
        written = small_chain()
        older = recorded_rows(small_chain(forward=40_000.0), taken_ns=TAKEN_NS - MINUTE_NS)
        path = write_chains(tmp_path / "chains.parquet", recorded_rows(written), older)
        chain = read_chain(path)
        assert (chain.underlying, chain.now_ns, len(chain)) == ("BTC", TAKEN_NS, 90)
        # A quotient times its divisor: two roundings.
        for name in ("strike", "bid", "ask", "forward"):
            np.testing.assert_allclose(getattr(chain, name), written[name], rtol=5e-16)
        np.testing.assert_array_equal(chain.expiry_ns, written["expiry_ns"] // 1_000 * 1_000)
        np.testing.assert_array_equal(chain.is_call, written["is_call"])
        np.testing.assert_array_equal(chain.quoted_ns, np.full(90, TAKEN_NS))
        assert np.all((chain.mark_volatility > 0.5) & (chain.mark_volatility < 1.0))

    def test_a_time_gets_the_chain_before_it(self, tmp_path: Path) -> None:
        frames = [
            recorded_rows(small_chain(forward=forward), taken_ns=TAKEN_NS + i * MINUTE_NS)
            for i, forward in enumerate((40_000.0, 50_000.0))
        ]
        path = write_chains(tmp_path / "chains.parquet", *frames)
        for after, forward in ((0, 40_000.0), (MINUTE_NS - 1, 40_000.0), (MINUTE_NS, 50_000.0), (10**15, 50_000.0)):
            assert read_chain(path, "BTC", TAKEN_NS + after).forward[0] == forward
        with pytest.raises(BadInputError, match=r"no chain of BTC by 2026-02-02 02:39:59 UTC\. The first is of 2026"):
            read_chain(path, "BTC", TAKEN_NS - 10**9)

    def test_sides_that_nobody_quotes_are_nan_and_a_mark_may_be_missing(self, tmp_path: Path) -> None:
        rows = recorded_rows(small_chain()).with_columns(bid_price=pl.lit(None, pl.Float64)).drop("implied_volatility")
        chain = read_chain(write_chains(tmp_path / "chains.parquet", rows))
        assert np.isnan(chain.bid).all()
        assert np.isnan(chain.mark_volatility).all()
        with pytest.raises(BadInputError, match="No quote of the 90 options on BTC at 2026-02-02 02:40:00 UTC can be"):
            chain.points()

    def test_without_forwards_the_pairs_of_calls_and_puts_say_them(self, tmp_path: Path) -> None:
        written = small_chain()
        rows = recorded_rows(written).with_columns(
            underlying=pl.when(pl.col("expiry_datetime") == pl.col("expiry_datetime").max()).then("underlying")
        )
        chain = read_chain(write_chains(tmp_path / "chains.parquet", rows))
        # A line through 15 points whose rounding is 1e-16 of a coin over slopes of 1 / 50,000.
        np.testing.assert_allclose(chain.forward, written["forward"], rtol=1e-11)
        np.testing.assert_allclose(chain.bid, written["bid"], rtol=1e-10, atol=1e-7)

    def test_a_forward_of_zero_is_none(self, tmp_path: Path) -> None:
        rows = recorded_rows(small_chain())
        known = read_chain(write_chains(tmp_path / "known.parquet", rows))
        zero = read_chain(write_chains(tmp_path / "zero.parquet", rows.with_columns(underlying=0.0)))
        np.testing.assert_allclose(zero.forward, known.forward, rtol=2e-3)

    def test_sides_may_be_written_in_other_ways(self, tmp_path: Path) -> None:
        rows = recorded_rows(small_chain())
        plain = read_chain(write_chains(tmp_path / "plain.parquet", rows))
        for say in (pl.col("option_type").str.to_uppercase(), pl.col("option_type").str.head(1)):
            other = write_chains(tmp_path / "other.parquet", rows.with_columns(option_type=say))
            np.testing.assert_array_equal(read_chain(other).is_call, plain.is_call)

    def test_an_underlying_has_to_be_named_where_there_are_several(self, tmp_path: Path) -> None:
        rows = recorded_rows(small_chain())
        path = write_chains(tmp_path / "chains.parquet", rows, rows.with_columns(currency=pl.lit("ETH")))
        with pytest.raises(ConfigError, match=r"holds options on BTC, ETH\. Say which: --underlying NAME\."):
            read_chain(path)
        with pytest.raises(ConfigError, match=r"no options on 'SOL'\. It has BTC, ETH\."):
            read_chain(path, "SOL")
        assert read_chain(path, "ETH").underlying == "ETH"

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"currency": None}, "the column 'currency' is missing"),
            ({"option_type": pl.lit("combo")}, r"option_type is one of \['combo'\], not call or put"),
            ({"timestamp": pl.lit(None, pl.Datetime("ns"))}, "'timestamp' holds no times"),
            ({"timestamp": pl.lit("noon")}, "the column 'timestamp' holds no times"),
            ({"strike": pl.lit("high")}, "the column 'strike' holds no numbers"),
        ],
    )
    def test_a_file_of_another_kind_says_what_it_lacks(self, change: dict[str, Any], said: str, tmp_path: Path) -> None:
        ((name, value),) = change.items()
        rows = recorded_rows(small_chain())
        rows = rows.drop(name) if value is None else rows.with_columns(value.alias(name))
        path = write_chains(tmp_path / "chains.parquet", rows)
        with pytest.raises(BadInputError, match=f"does not hold option chains: .*{said}.* Name the folder or URL"):
            read_chain(path)

    def test_what_is_no_file_of_chains(self, tmp_path: Path) -> None:
        text = tmp_path / "chains.parquet"
        text.write_text("strike,bid\n")
        with pytest.raises(BadInputError, match="does not hold option chains"):
            read_chain(text)
        with pytest.raises(BadInputError, match=r"is a folder of files\. Name one of them, such as .*chains\.parquet"):
            read_chain(tmp_path)
        with pytest.raises(BadInputError, match="missing"):
            read_chain(tmp_path / "missing")
        (tmp_path / "empty").mkdir()
        with pytest.raises(LakeError, match="There is no lake"):
            read_chain(tmp_path / "empty")


class TestLake:
    def test_it_holds_what_the_recording_held(self, tmp_path: Path) -> None:
        rows = [
            recorded_rows(small_chain(forward=forward), taken_ns=TAKEN_NS + i * MINUTE_NS, tick=TICK, coin=coin)
            for i, forward in enumerate((40_000.0, 50_000.0))
            for coin in ("BTC", "ETH")
        ]
        recording = write_chains(tmp_path / "chains.parquet", *rows)
        lake = write_lake(tmp_path / "lake", recording)
        for at in (TAKEN_NS + 1, None):
            expected, found = (ordered(read_chain(place, "ETH", at)) for place in (recording, lake))
            assert (found.underlying, found.now_ns) == ("ETH", expected.now_ns)
            assert found.forward[0] == (50_000.0 if at is None else 40_000.0)
            np.testing.assert_array_equal(found.expiry_ns, expected.expiry_ns)
            np.testing.assert_array_equal(found.is_call, expected.is_call)
            np.testing.assert_array_equal(found.quoted_ns, expected.quoted_ns)
            # Strikes are stored to 1e-9, prices as counts of the tick.
            np.testing.assert_allclose(found.strike, expected.strike, atol=6e-10)
            np.testing.assert_allclose(found.bid, expected.bid, rtol=1e-14)
            np.testing.assert_allclose(found.ask, expected.ask, rtol=1e-14)
            assert counts_of(found.points()) == counts_of(expected.points())
            # The mark price is the mid of quotes on the tick: half a tick over the least vega is some 50 bp.
            near = np.abs(np.log(found.strike / found.forward)) < 0.1
            np.testing.assert_allclose(found.mark_volatility[near], expected.mark_volatility[near], atol=0.01)

    def test_its_table_is_as_good_as_the_lake(self, tmp_path: Path) -> None:
        lake = write_lake(
            tmp_path / "lake",
            write_chains(tmp_path / "chains.parquet", recorded_rows(small_chain(), tick=TICK)),
            ("BTC",),
        )
        np.testing.assert_array_equal(read_chain(lake / "options").strike, read_chain(lake).strike)
        with pytest.raises(BadInputError, match="Name the one in it"):
            read_chain(tmp_path)

    def test_only_what_was_received_by_then_is_known(self, tmp_path: Path) -> None:
        """The newest quote was made before the time, and came after it."""
        fill_by_hand(tmp_path, [quote(0, 10), quote(1, 11), quote(2, 12, received=30)])
        before, after = (read_chain(tmp_path, at_ns=at(second)) for second in (20, 30))
        assert (before.bid[0], before.quoted_ns[0], before.now_ns) == (11 * 0.5, at(1), at(1))
        assert (after.bid[0], after.quoted_ns[0], after.now_ns) == (12 * 0.5, at(2), at(2))

    def test_each_option_keeps_its_own_last_quote(self, tmp_path: Path) -> None:
        """One quoted late, one long ago, one without a side; none of those taken off, expired or of yesterday."""
        rows = [
            quote(0, 10, "old", strike=90.0),
            quote(100, 20, "new", strike=95.0),
            quote(50, 30, "off", strike=100.0),
            quote(90, None, "off", strike=100.0, forward_e9=None),
            quote(60, None, "silent", strike=110.0),
            quote(0, 40, "expired", expiry=at(80)),
            quote(-90_000, 50, "yesterday", strike=105.0),
        ]
        fill_by_hand(tmp_path, rows)
        chain = read_chain(tmp_path)
        assert chain.now_ns == at(100)
        np.testing.assert_array_equal(chain.strike, [90.0, 95.0, 110.0])
        np.testing.assert_array_equal(chain.quoted_ns, [at(0), at(100), at(60)])
        np.testing.assert_array_equal(chain.bid, [5.0, 10.0, np.nan])

    def test_prices_count_in_the_increment_of_their_time(self, tmp_path: Path) -> None:
        """After a change of the increment the old quotes of other options are still in the old one."""
        rows = [quote(0, 10, "a", strike=90.0), quote(1, 10, "b", strike=95.0, ref_version=2)]
        fill_by_hand(tmp_path, rows)
        np.testing.assert_array_equal(read_chain(tmp_path).bid, [5.0, 2.5])

    def test_coin_prices_are_worth_the_forward(self, tmp_path: Path) -> None:
        fill_by_hand(tmp_path, [quote(0, 1, forward=200.0)], is_inverse=True)
        assert read_chain(tmp_path).bid[0] == 100.0

    def test_options_without_reference_data_have_no_price(self, tmp_path: Path) -> None:
        fill_by_hand(tmp_path, [quote(0, 10, "a"), quote(0, 10, "b", ref_version=3)])
        with pytest.raises(BadInputError, match="no reference data of 1 options, such as b"):
            read_chain(tmp_path)

    def test_a_lake_without_options_or_so_early_says_so(self, tmp_path: Path) -> None:
        append_rows(tmp_path, "instruments", [{"underlying": "BTC"}])
        with pytest.raises(BadInputError, match="holds no option quotes"):
            read_chain(tmp_path)
        append_rows(tmp_path, "options", [quote(0, 10)])
        with pytest.raises(BadInputError, match="no chain of BTC by 2026-02-02 02:39:59 UTC"):
            read_chain(tmp_path, at_ns=at(-1))


def at(second: float) -> int:
    return TAKEN_NS + round(second * 10**9)


def quote(second: float, bid: int | None, instrument: str = "a", *, received: float | None = None, **more: Any) -> Any:
    """A call, so many seconds after the start; counts of increments."""
    strike, forward = more.pop("strike", 100.0), more.pop("forward", 100.0)
    row = {
        "underlying": "BTC",
        "instrument": instrument,
        "ts_event": at(second),
        "ts_recv": at(second if received is None else received),
        "ref_version": more.pop("ref_version", 1),
        "expiry_ns": more.pop("expiry", at(10**6)),
        "strike_e9": round(strike * 1e9),
        "is_call": True,
        "bid": bid,
        "ask": None if bid is None else bid + 1,
        "forward_e9": round(forward * 1e9),
    }
    return row | more


def fill_by_hand(folder: Path, quotes: list[Any], *, is_inverse: bool = False) -> None:
    """Quotes in the order of the log; of every option an increment of 0.5, and 0.25 from version 2 on."""
    names = dict.fromkeys(each["instrument"] for each in quotes)
    facts = {"underlying": "BTC", "instrument_type": "option", "is_inverse": is_inverse}
    instruments = [
        facts | {"instrument": name, "ref_version": version, "price_increment_e9": 10**9 // 2**version}
        for name in names
        for version in (1, 2)
    ]
    append_rows(folder, "instruments", instruments)
    for offset, each in enumerate(quotes):
        append_rows(folder, "options", [each], offset=offset)


@pytest.mark.data
@pytest.mark.parametrize("coin", ["BTC", "ETH"])
def test_recorded_marks_agree_with_the_quotes(coin: str) -> None:
    """The venue's mark volatilities lie near the mids that the chain gives: the units are right."""
    path = RECORDED / "deribit_options_202603.parquet"
    if not path.exists():
        pytest.skip(f"the recorded chains are not here: {path}")
    chain = read_chain(path, coin)
    points = chain.points()
    apart = np.abs(points.mid_Q - chain.mark_volatility[points.row_Q])
    assert len(points.k_Q) > 200
    assert np.median(apart) < 0.005


@needs_object_store
def test_a_lake_in_an_object_store_holds_the_same_chain(store: LakeLocation, tmp_path: Path) -> None:
    recording = write_chains(tmp_path / "chains.parquet", recorded_rows(small_chain(), tick=TICK))
    local = read_chain(write_lake(tmp_path / "lake", recording, ("BTC",)))
    far = read_chain(write_lake(store / "chains", recording, ("BTC",)))
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(far, name), getattr(local, name), err_msg=name)
