"""``hedgeflow surface`` on small chains: what it prints and draws of a recording and of a lake."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from chain_files import DAYS, MINUTE_NS, TAKEN_NS, TICK, recorded_rows, small_chain, write_chains, write_lake
from option_chains import chain_of
from typer.testing import CliRunner

from features.errors import BadInputError, ConfigError
from pipeline.cli import app

RECORDED = Path(__file__).resolve().parents[4] / "shared" / "data" / "deribit_options"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two chains of BTC, the older with another forward, and one of ETH; prices on the venue's tick."""
    frames = [
        recorded_rows(small_chain(forward=40_000.0), taken_ns=TAKEN_NS - 90 * MINUTE_NS, tick=TICK),
        recorded_rows(small_chain(), tick=TICK),
        recorded_rows(small_chain(), coin="ETH", tick=TICK),
    ]
    return write_chains(tmp_path_factory.mktemp("recording") / "chains.parquet", *frames)


@pytest.fixture(scope="module")
def lake(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lake(tmp_path_factory.mktemp("lake"), recording)


def run(*arguments: str | Path) -> list[str]:
    done = CliRunner().invoke(app, ["surface", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output.splitlines()


def rows_of(lines: list[str], first: str) -> dict[str, list[str]]:
    """The cells of a table that begins with the column ``first``, by row."""
    begin = next(i for i, line in enumerate(lines) if line.split()[:1] == [first])
    assert all(len(line) <= 80 for line in lines[begin : begin + 4]), "it fits into a terminal"
    return {line.split()[0]: line.split() for line in lines[begin + 1 :] if line}


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of a PNG, in pixels, from its header."""
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:24])
    return width, height


def test_fit_says_what_was_used_and_how_well_it_was_met(recording: Path, tmp_path: Path) -> None:
    picture = tmp_path / "surface.png"
    lines = run("fit", recording, "--underlying", "BTC", "--plot", picture)
    assert lines[0] == "BTC, chain of 2026-02-02 02:40:00 UTC: 90 options"
    assert lines[1] == "quotes used 45 of 3 expiries; left out: in the money 45"
    rows = rows_of(lines, "expiry")
    for date, days, atm, reversal in (
        ("2026-02-09", 7.0, 70.54, -12.93),
        ("2026-03-04", 30.0, 70.14, -11.51),
        ("2026-05-03", 90.0, 69.03, -9.55),
    ):
        cells = rows[date]
        assert (float(cells[1]), cells[2], cells[4]) == (days, "15", "100%")
        # Half a tick of 2.5 USD over the vega of the outermost option is 15 bp after 7 days, less later and inside.
        assert float(cells[3]) < 15.0
        assert float(cells[5]) == pytest.approx(atm, abs=0.1)
        assert float(cells[6]) == pytest.approx(reversal, abs=0.2)
    assert rows["all"][1] == "45"
    assert any(line.startswith("fitted in ") for line in lines)
    assert "arbitrage: none; the model excludes it everywhere" in lines
    assert lines[-1] == f"picture: {picture}"
    width, height = size_of(picture)
    assert 1_600 <= width <= 2_400
    assert 700 <= height <= 1_200


@pytest.mark.parametrize("model", ["svi", "sabr", "heston", "nonparametric", "streamed"])
def test_every_model_fits_a_chain_of_a_lake(model: str, lake: Path) -> None:
    lines = run("fit", lake, "--underlying", "ETH", "--model", model)
    assert lines[1] == "quotes used 45 of 3 expiries; left out: in the money 45"
    # Five numbers for all expiries cannot be a power law's smiles; the others meet theirs.
    assert float(rows_of(lines, "expiry")["all"][2]) < (200.0 if model == "heston" else 20.0)


def test_a_recording_and_its_lake_give_the_same_table(recording: Path, lake: Path) -> None:
    of_both = [rows_of(run("fit", place, "--underlying", "BTC"), "expiry") for place in (recording, lake)]
    dates = [name for name in of_both[0] if name.startswith("2026")]
    assert len(dates) == len(DAYS)
    for date in dates:
        numbers = [[float(cell.rstrip("%")) for cell in rows[date][1:8]] for rows in of_both]
        # Strikes to 1e-9 and prices to 1e-14: the last printed digit may turn.
        np.testing.assert_allclose(*numbers, atol=0.11)


@pytest.mark.parametrize("place", ["recording", "lake"])
def test_a_time_gets_the_chain_that_was_known(place: str, request: pytest.FixtureRequest) -> None:
    where = request.getfixturevalue(place)
    lines = run("fit", where, "--underlying", "BTC", "--at", "2026-02-02T02:39")
    assert lines[0] == "BTC, chain of 2026-02-02 01:10:00 UTC, 89 min before --at: 90 options"


def test_arbitrage_is_said_loudly(tmp_path: Path) -> None:
    """A short expiry with more total variance than the one after it: 0.04 against 0.01 at the money."""

    def falling(k: np.ndarray, years: np.ndarray) -> np.ndarray:
        return np.sqrt(np.where(years < 0.05, 0.04, 0.01) / years) + 0.0 * k

    path = write_chains(tmp_path / "chains.parquet", recorded_rows(chain_of((10.0, 40.0), falling)))
    lines = run("fit", path, "--model", "svi")
    warning = next(i for i, line in enumerate(lines) if line.startswith("WARNING: the surface has static arbitrage"))
    # Half of the fall up to the middle of the two, which is looked at as well, and half behind it.
    assert lines[warning + 1].startswith("  calendar 2, worst 0.015 (of total variance) at ")
    assert "arbitrage: none; the model excludes it everywhere" in run("fit", path, "--model", "essvi")
    compared = rows_of(run("compare", path, "--models", "svi,essvi"), "model")
    assert compared["svi"][4:7] == ["0", "2", "0"]
    assert compared["essvi"][4:7] == ["0", "0", "0"]


MODELS = ("svi", "essvi", "sabr", "heston", "nonparametric", "streamed")


def test_compare_judges_every_model_on_the_same_quotes(recording: Path, tmp_path: Path) -> None:
    picture = tmp_path / "models.png"
    rows = rows_of(run("compare", recording, "--underlying", "BTC", "--plot", picture), "model")
    assert [name for name in rows if name in MODELS] == list(MODELS)
    numbers = {name: [float(cell.rstrip("%")) for cell in rows[name][1:7]] for name in MODELS}
    for name in ("svi", "essvi", "sabr", "nonparametric"):
        in_sample, held_out, inside, *arbitrage = numbers[name]
        assert in_sample < 20.0
        assert held_out < 30.0
        assert inside == 100.0
        assert arbitrage == [0.0, 0.0, 0.0]
    assert numbers["heston"][0] > numbers["sabr"][0]
    width, height = size_of(picture)
    assert 1_600 <= width <= 2_400
    assert 1_000 <= height <= 2_000


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (["fit"], ConfigError, r"holds options on BTC, ETH\. Say which: --underlying NAME\."),
        (["compare", "--underlying", "SOL"], ConfigError, r"no options on 'SOL'\. It has BTC, ETH\."),
        (["fit", "--underlying", "BTC", "--at", "yesterday"], ConfigError, r"'yesterday' is no time\. Write UTC"),
        (["fit", "--underlying", "BTC", "--at", "2026-01-01"], BadInputError, "no chain of BTC by 2026-01-01 00:00:00"),
        (["compare", "--underlying", "BTC", "--models", "svi,bates"], ConfigError, "There is no surface model 'bates'"),
        (["compare", "--underlying", "BTC", "--models", ","], ConfigError, "Known are svi, essvi, sabr"),
        (["fit", "--underlying", "BTC", "--plot", "/nowhere/x.png"], ConfigError, "There is no folder /nowhere"),
    ],
)
def test_what_cannot_be_done_says_what_to_do(
    arguments: list[str], error: type[Exception], said: str, recording: Path
) -> None:
    command, *options = arguments
    done = CliRunner().invoke(app, ["surface", command, str(recording), *options])
    assert isinstance(done.exception, error)
    with pytest.raises(error, match=said):
        raise done.exception


def test_an_unwritable_picture_is_an_error_of_one_line(recording: Path) -> None:
    done = CliRunner().invoke(app, ["surface", "fit", str(recording), "--underlying", "BTC", "--plot", "/proc/x.png"])
    assert isinstance(done.exception, ConfigError)
    assert "cannot be written" in str(done.exception)


@pytest.mark.parametrize(
    ("plot", "said"),
    [
        ("x.pdf", "no name of a picture"),
        ("", "no name of a picture"),
        ("nowhere/x.png", "no folder"),
        ("a.png", "there already"),
        ("link.png", "there already"),
    ],
)
def test_a_picture_goes_where_one_belongs(plot: str, said: str, recording: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    (tmp_path / "link.png").symlink_to(recording)
    before = recording.read_bytes()
    done = CliRunner().invoke(
        app, ["surface", "fit", str(recording), "--underlying", "BTC", "--plot", str(tmp_path / plot) if plot else ""]
    )
    assert isinstance(done.exception, ConfigError)
    assert said in str(done.exception)
    assert recording.read_bytes() == before


def test_forwards_that_contradict_parity_and_what_lies_beyond_the_quotes_are_said(
    recording: Path, tmp_path: Path
) -> None:
    rows = pl.read_parquet(recording).filter(pl.col("currency").cast(pl.String) == "BTC")
    wrong = tmp_path / "wrong.parquet"
    rows.with_columns(pl.col("underlying") * 1.05).write_parquet(wrong)
    lines = run("fit", wrong, "--model", "svi")
    warned = [line for line in lines if line.startswith("WARNING: the forward of")]
    assert warned
    assert all("+5.0% off put-call parity" in line for line in warned)
    wings = tmp_path / "wings.parquet"
    rows.filter(pl.col("strike") > 1.02 * pl.col("underlying")).write_parquet(wings)
    lines = run("fit", wings, "--model", "svi")
    assert all(cells[5].startswith("~") for name, cells in rows_of(lines, "expiry").items() if name.startswith("20"))
    assert "~ beyond the quotes of its expiry" in lines


def test_a_chain_that_cannot_be_used_says_what_its_quotes_lack(recording: Path, tmp_path: Path) -> None:
    rows = pl.read_parquet(recording).filter(pl.col("currency").cast(pl.String) == "BTC")
    path = tmp_path / "crossed.parquet"
    rows.with_columns(bid_price=pl.col("ask_price") + 0.01).write_parquet(path)
    done = CliRunner().invoke(app, ["surface", "fit", str(path)])
    assert isinstance(done.exception, BadInputError)
    assert "crossed" in str(done.exception)
    assert "exchanged" in str(done.exception)


@pytest.mark.data
def test_a_recorded_chain_is_fitted_and_drawn(tmp_path: Path) -> None:
    path = RECORDED / "deribit_options_202604.parquet"
    if not path.exists():
        pytest.skip(f"the recorded chains are not here: {path}")
    picture = tmp_path / "surface.png"
    lines = run("fit", path, "--underlying", "ETH", "--at", "2026-04-15T12", "--model", "svi", "--plot", picture)
    assert lines[0].startswith("ETH, chain of 2026-04-15 10:24:47 UTC, 95 min before --at: ")
    total = rows_of(lines, "expiry")["all"]
    assert int(total[1]) > 300
    assert float(total[3].rstrip("%")) > 85.0
    width, height = size_of(picture)
    assert 1_600 <= width <= 2_400
    assert 1_200 <= height <= 2_400
