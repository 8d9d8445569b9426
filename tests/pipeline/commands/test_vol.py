"""``hedgeflow vol convert``: the numbers that follow, their equations, and one line for what contradicts itself."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from features.errors import ConfigError
from features.surface.black import black_delta, black_price
from features.surface.greeks import inverse_delta
from pipeline.cli import app
from pipeline.vol_conversion import UNITS, Given, convert

DAYS_30 = ("--days", "30")
OPTION = ("--forward", "65000", "--strike", "70000", "--call")


def table(*arguments: str) -> dict[str, dict[str, Any]]:
    """What the command says as JSON, by name."""
    done = CliRunner().invoke(app, ["vol", "convert", *arguments, "--format", "json"])
    assert done.exception is None, done.exception
    return {row["name"]: row for row in json.loads(done.output)}


def values(*arguments: str) -> dict[str, float]:
    return {name: row["value"] for name, row in table(*arguments).items()}


def test_it_runs_as_typed() -> None:
    command = [sys.executable, "-m", "pipeline.cli", "vol", "convert", "--volatility", "52%", *DAYS_30]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "w = s^2 T = 0.52^2 x 30/365 = 0.0222247" in done.stdout
    head, *rows = done.stdout.splitlines()
    unit, equation = head.index("unit"), head.index("equation")
    assert len(rows) == 5
    for row in rows:  # values end, units and equations begin below their heads
        assert row[unit - 2 : unit] == row[equation - 2 : equation] == "  "
        assert row[unit - 3].isdigit()
        assert row[equation] != " "
    assert rows[3].split()[:3] == ["total", "variance", "0.0222247"]


def test_two_of_volatility_time_and_variance_give_the_third() -> None:
    w = 0.52**2 * 30 / 365
    for pair in (
        ("--volatility", "52%", *DAYS_30),
        ("--volatility", "0.52", "--years", repr(30 / 365)),
        ("--total-variance", repr(w), *DAYS_30),
        ("--total-variance", repr(w), "--volatility", "52%"),
    ):
        found = values(*pair)
        assert found["volatility"] == pytest.approx(0.52, rel=1e-15)
        assert found["time to expiry"] == pytest.approx(30 / 365, rel=1e-15)
        assert found["total variance"] == pytest.approx(w, rel=1e-15)
        assert found["standard deviation"] == pytest.approx(math.sqrt(w), rel=1e-15)
        assert found["volatility a day"] == pytest.approx(0.52 / math.sqrt(365), rel=1e-15)


def test_two_of_forward_strike_and_moneyness_give_the_third() -> None:
    k = math.log(70 / 65)
    for pair in (
        ("--forward", "65000", "--strike", "70000"),
        ("--forward", "65000", "--log-moneyness", repr(k)),
        ("--strike", "70000", "--log-moneyness", repr(k)),
    ):
        found = values(*pair)
        assert found["forward"] == pytest.approx(65_000, rel=1e-15)
        assert found["strike"] == pytest.approx(70_000, rel=1e-15)
        assert found["log-moneyness"] == pytest.approx(k, rel=1e-14)


@pytest.mark.parametrize("is_call", [True, False])
def test_an_option_has_a_price_and_deltas_in_every_convention(is_call: bool) -> None:
    side = "--call" if is_call else "--put"
    found = values("--volatility", "60%", *DAYS_30, *OPTION[:4], side, "--discount", "95%")
    option = (65_000.0, 70_000.0, 30 / 365, 0.6, is_call)
    price, delta = float(black_price(*option)), float(black_delta(*option))
    assert found["price"] == pytest.approx(price, rel=1e-13)
    assert found["coin price"] == pytest.approx(price / 65_000, rel=1e-13)
    assert found["discounted price"] == pytest.approx(0.95 * price, rel=1e-13)
    assert found["forward delta"] == pytest.approx(delta, rel=1e-13)
    assert found["discounted delta"] == pytest.approx(0.95 * delta, rel=1e-13)
    assert found["inverse delta"] == pytest.approx(float(inverse_delta(*option)), rel=1e-13)
    assert list(found) == list(UNITS)


@pytest.mark.parametrize("side", ["--call", "--put"])
def test_every_price_gives_its_volatility_back(side: str) -> None:
    option = (*OPTION[:4], side, "--discount", "0.95", *DAYS_30)
    found = values("--volatility", "60%", *option)
    for name in ("price", "coin price", "discounted price"):
        again = values(f"--{name.replace(' ', '-')}", repr(found[name]), *option)
        assert again == pytest.approx(found, rel=1e-12)


def test_a_coin_price_needs_no_forward_and_a_variance_no_time() -> None:
    found = values("--coin-price", "2%", "--log-moneyness", "0.05", "--call")
    assert "volatility" not in found
    assert "price" not in found
    again = float(black_price(1.0, math.exp(0.05), 1.0, math.sqrt(found["total variance"]), True))
    assert again == pytest.approx(0.02, rel=1e-13)


@pytest.mark.parametrize(
    ("convention", "row"), [(each, f"{each} delta") for each in ("forward", "discounted", "inverse")]
)
@pytest.mark.parametrize("delta", ["25%", "-25%"])
def test_a_strike_is_found_from_a_delta(convention: str, row: str, delta: str) -> None:
    given = (
        "--volatility",
        "60%",
        "--days",
        "7",
        "--forward",
        "65000",
        "--discount",
        "0.98",
        "--convention",
        convention,
    )
    found = values("--delta", delta, *given)
    assert found[row] == pytest.approx(float(delta[:-1]) / 100, rel=1e-12)
    assert (found["strike"] > 65_000) == (delta == "25%")
    option = (65_000.0, found["strike"], 7 / 365, 0.6, delta == "25%")
    assert found["forward delta"] == pytest.approx(float(black_delta(*option)), rel=1e-12)


def test_equations_hold_the_numbers() -> None:
    rows = table("--volatility", "60%", *DAYS_30, *OPTION)
    for name, text in {
        "volatility": "given",
        "time to expiry": "T = days / 365 = 30/365 = 0.0821918",
        "log-moneyness": "k = log(K / F) = log(70000 / 65000) = 0.074108",
        "price": "V = F N(d1) - K N(d2) = 65000 x 0.365116 - 70000 x 0.302637 = 2547.96",
    }.items():
        assert rows[name]["equation"] == text
    for row in rows.values():
        left, _, last = row["equation"].rpartition(" = ")
        assert row["equation"] == "given" or float(last) == pytest.approx(row["value"], rel=5e-6)
        assert row["unit"] == UNITS[row["name"]]
        if left.startswith("V = "):  # the numbers put in are those of the result
            product = left.rpartition(" = ")[2].replace("x", "*").split(" - ")
            first, second = (float(a) * float(b) for a, b in (each.split("*") for each in product))
            assert first - second == pytest.approx(row["value"], abs=0.1)


def test_at_expiry_an_option_is_worth_its_intrinsic_value() -> None:
    found = values("--volatility", "60%", "--days", "0", "--forward", "65000", "--strike", "60000", "--call")
    assert found["price"] == 5_000.0
    assert found["forward delta"] == 1.0
    assert found["inverse delta"] == pytest.approx(60 / 65, rel=1e-15)
    assert "d1" not in found


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("--volatility", "60%"), "Two of --volatility, --days (or --years) and --total-variance say the third."),
        (("--volatility", "60%", *DAYS_30, "--forward", "1"), "Price and deltas need --strike and --call or --put."),
        (("--volatility", "60%", *DAYS_30, "--call"), "Price and deltas need --forward and --strike."),
        (
            ("--volatility", "60%", *DAYS_30, "--log-moneyness", "0", "--put"),
            "Prices in quote currency need --forward.",
        ),
        (("--volatility", "60%", *DAYS_30), ""),
        (("--volatility", "60%", *DAYS_30, *OPTION), ""),
    ],
)
def test_it_says_what_would_lead_further(arguments: tuple[str, ...], hint: str) -> None:
    done = CliRunner().invoke(app, ["vol", "convert", *arguments])
    rows, _, last = done.output.partition("\n\n")
    assert last.strip() == hint
    assert "equation" in rows


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "No number is given. Give two of --volatility"),
        (("--forward", "65000"), "Nothing follows from this. Give two of"),
        (("--volatility", "half"), "--volatility 'half' is not a number. Write 0.52 or 52%"),
        (("--strike", "65,000"), "--strike '65,000' is not a number. Write 70000, without units and separators."),
        (("--days", "nan"), "--days 'nan' is not a number."),
        (("--volatility", "52"), "--volatility 52 is 5200%. Write 52% or 0.52; 5200% if meant."),
        (("--delta", "25"), "--delta 25 is 2500%. Write 25% or 0.25"),
        (("--volatility", "-52%"), "--volatility is -0.52. It must not be negative."),
        (("--forward", "0", "--strike", "1"), "--forward is 0. It must be positive."),
        (("--volatility", "1e-200", *DAYS_30), "--volatility is 1e-200. Its size must lie between"),
        (("--days", "30", "--years", "1"), "--days and --years each say the time to expiry. Give only one of them."),
        (
            ("--volatility", "52%", *DAYS_30, "--total-variance", "0.02"),
            "--volatility and --days say the total variance, and so does --total-variance. Leave one of the three out.",
        ),
        (
            ("--volatility", "52%", *DAYS_30, *OPTION, "--price", "1000"),
            "--volatility and --days say the total variance, and so does --price.",
        ),
        (("--price", "9", "--coin-price", "0.1"), "--price and --coin-price each say the total variance."),
        (("--forward", "1", "--strike", "1", "--log-moneyness", "0"), "--forward and --strike say the log-moneyness"),
        (("--delta", "25%", "--strike", "1"), "--delta and --strike each say the strike. Give only one of them."),
        (("--delta", "25%", "--put"), "--delta is 0.25, and that of a put is negative. Write --delta -0.25, or"),
        (("--delta", "-25%", "--call"), "that of a call is positive. Write --delta 0.25, or --put."),
        (("--delta", "25%", "--forward", "1"), "No strike follows from --delta alone. Give two of --volatility"),
        (("--delta", "25%", "--convention", "discounted"), "the discount factor is unknown. Give --discount."),
        (("--delta", "25%", "--price", "1", "--forward", "9"), "Give --strike in place of --delta, or"),
        (("--delta", "100%", "--volatility", "52%", *DAYS_30), "No call has the forward delta 1 at a total"),
        (
            ("--delta", "90%", "--convention", "inverse", "--volatility", "52%", *DAYS_30),
            "No call has the inverse delta 0.9 at a total variance of",
        ),
        (("--price", "9"), "No volatility follows from --price alone. Give --strike, --forward, --call or --put too."),
        (("--discounted-price", "9", *OPTION), "follows from --discounted-price alone. Give --discount too."),
        (
            ("--price", "4000", "--forward", "65000", "--strike", "60000", "--call"),
            "No volatility gives a price of 4000: it must lie above its intrinsic value 5000 and below the forward",
        ),
        (("--price", "70000", *OPTION[:4], "--put"), "above its intrinsic value 5000 and below the strike 70000."),
        (("--total-variance", "0.1", "--days", "0"), "At expiry no volatility follows from a total variance."),
        (("--total-variance", "0.1", "--volatility", "0"), "No time follows from a volatility of 0. Give --days"),
        (("--forward", "1", "--log-moneyness", "1000"), "A log-moneyness of 1000 leaves no digits."),
        (("--volatility", "9.9", "--years", "17", *OPTION), "A total variance of 1666.17 leaves no digits."),
    ],
)  # fmt: skip
def test_what_does_not_work_is_one_line_with_the_remedy(arguments: tuple[str, ...], line: str) -> None:
    error = CliRunner().invoke(app, ["vol", "convert", *arguments]).exception
    assert isinstance(error, ConfigError)
    assert error.exit_code == 4
    assert line in str(error)
    assert "\n" not in str(error)


FIELDS = ("volatility", "total_variance", "days", "forward", "strike", "log_moneyness", "price", "coin_price", "delta")
numbers = st.one_of(
    st.floats(0, 3), st.floats(-1, 1), st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0.0, 1e15])
)


@given(known=st.dictionaries(st.sampled_from(FIELDS), numbers), is_call=st.sampled_from([True, False, None]))
def test_whatever_is_given_ends_in_finite_numbers_or_in_one_line(known: dict[str, float], is_call: bool | None) -> None:
    try:
        rows = convert(Given(**known, is_call=is_call)).rows
    except ConfigError:
        rows = ()
    assert all(math.isfinite(row.value) for row in rows)
