"""What ``hedgeflow replay`` says of files that it cannot use."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from features.errors import BadInputError
from pipeline.cli import app

TRADES = """exchange,symbol,timestamp,local_timestamp,id,side,price,amount
bitmex,XBTUSD,1583020803145000,1583020803307160,a,sell,8531.5,1
"""


def test_only_recordings_of_binance_can_be_verified(tmp_path: Path) -> None:
    (tmp_path / "trades.csv").write_text(TRADES)
    done = CliRunner().invoke(app, ["replay", str(tmp_path / "trades.csv"), "--verify-book"])
    assert isinstance(done.exception, BadInputError)
    assert "is a file of the kind Tardis CSV. --verify-book compares Binance recordings" in str(done.exception)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TRADES, "No bar closed"),
        (TRADES[: TRADES.index("bitmex")], "Nothing was read"),
    ],
)
def test_a_backfill_without_rows_says_why(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "trades.csv").write_text(text)
    arguments = ["--from", str(tmp_path / "trades.csv"), "--to", str(tmp_path / "lake")]
    done = CliRunner().invoke(app, ["backfill", *arguments])
    assert done.exit_code == 0, done.output
    assert "no rows; rejected nothing" in done.output
    assert said in done.output
