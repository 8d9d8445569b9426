"""``hedgeflow vol``: implied volatility at the command line."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from pipeline.commands.options import Format

if TYPE_CHECKING:
    from pipeline.vol_conversion import Conversion

app = typer.Typer(help="Implied volatility: its units and conversions.", no_args_is_help=True)

_LARGEST_PLAIN: Final = {"volatility": 10.0, "discount": 2.0, "delta": 2.0}
"""Beyond it a number without a percent sign is one that lacks it."""


def _option(flag: str, text: str) -> Any:
    return typer.Option(flag, help=text, metavar="NUMBER", show_default=False)


@app.command(
    epilog="Examples: [bold]hedgeflow vol convert --volatility 52% --days 30[/bold]; "
    "[bold]hedgeflow vol convert --coin-price 0.021 --forward 65000 --strike 70000 --days 30 --call[/bold]; "
    "[bold]hedgeflow vol convert --delta -25% --volatility 60% --days 7 --forward 65000[/bold]"
)
def convert(
    volatility: Annotated[str | None, _option("--volatility", "Of a year: 52% or 0.52.")] = None,
    total_variance: Annotated[str | None, _option("--total-variance", "Volatility squared times years.")] = None,
    days: Annotated[str | None, _option("--days", "To expiry; 0.25 are six hours.")] = None,
    years: Annotated[str | None, _option("--years", "To expiry, of 365 days.")] = None,
    forward: Annotated[str | None, _option("--forward", "Of the expiry, in quote currency.")] = None,
    strike: Annotated[str | None, _option("--strike", "In quote currency.")] = None,
    log_moneyness: Annotated[str | None, _option("--log-moneyness", "log(strike / forward).")] = None,
    discount: Annotated[str | None, _option("--discount", "Discount factor until expiry.")] = None,
    price: Annotated[str | None, _option("--price", "Undiscounted, in quote currency.")] = None,
    coin_price: Annotated[
        str | None, _option("--coin-price", "Price over forward, as of coin-settled options.")
    ] = None,
    discounted_price: Annotated[str | None, _option("--discounted-price", "As paid today, in quote currency.")] = None,
    delta: Annotated[str | None, _option("--delta", "25% or 0.25; of puts -25%.")] = None,
    convention: Annotated[
        Literal["forward", "discounted", "inverse"],
        typer.Option("--convention", help="What --delta is; inverse is less the coin price."),
    ] = "forward",
    is_call: Annotated[bool | None, typer.Option("--call/--put", help="The option.", show_default=False)] = None,
    format_: Format = "table",
) -> None:
    """Everything that follows from a few numbers of an option, each with its unit and its equation.

    Time is in years of 365 days, prices are Black-76 on the forward. Shares and volatilities may carry a percent sign.
    """
    from pipeline.vol_conversion import Given, convert

    texts = {
        "volatility": volatility,
        "total_variance": total_variance,
        "days": days,
        "years": years,
        "forward": forward,
        "strike": strike,
        "log_moneyness": log_moneyness,
        "discount": discount,
        "price": price,
        "coin_price": coin_price,
        "discounted_price": discounted_price,
        "delta": delta,
    }
    numbers = {name: number(name, text) for name, text in texts.items() if text is not None}
    found = convert(Given(**numbers, convention=convention, is_call=is_call))
    typer.echo(_json(found) if format_ == "json" else _table(found))


def number(name: str, text: str) -> float:
    """A number as it is typed, with a percent sign or without.

    >>> number("volatility", "52%"), number("strike", "70000")
    (0.52, 70000.0)
    """
    from features.errors import ConfigError

    flag = f"--{name.replace('_', '-')}"
    is_percent = text.strip().endswith("%")
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        how = _PLAIN.get(name, "0.52 or 52%")
        raise ConfigError(f"{flag} {text!r} is not a number.", f"Write {how}, without units and separators.")
    if is_percent and name in _PLAIN:
        raise ConfigError(f"{flag} {text} is a percentage.", f"Write a plain number, such as {text.strip()[:-1]}.")
    if is_percent:
        return value / 100.0
    if abs(value) > _LARGEST_PLAIN.get(name, math.inf):
        raise ConfigError(
            f"{flag} {text} is {100.0 * value:g}%.", f"Write {text}% or {value / 100.0:g}; {100.0 * value:g}% if meant."
        )
    return value


_PLAIN: Final = {
    "days": "30", "years": "0.25", "forward": "65000", "strike": "70000", "price": "1500", "discounted_price": "1500",
}  # fmt: skip
"""What has no percent sign, with an example."""


def _table(found: Conversion) -> str:
    """Columns side by side; the equation is last, so that only it wraps in a narrow terminal."""
    from pipeline.vol_conversion import shown

    lines = [("", "value", "unit", "equation")]
    lines += [(row.name, shown(row.value), row.unit, row.equation) for row in found.rows]
    name, value, unit = (max(len(line[column]) for line in lines) for column in range(3))
    text = "\n".join(f"{line[0]:<{name}}  {line[1]:>{value}}  {line[2]:<{unit}}  {line[3]}".rstrip() for line in lines)
    return f"{text}\n\n{found.hint}" if found.hint else text


def _json(found: Conversion) -> str:
    import json

    return json.dumps([row._asdict() for row in found.rows], indent=2)
