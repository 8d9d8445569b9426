"""What follows from a few numbers of an option: each result with its unit, its equation and the numbers put in.

Three relations tie everything together: w = s^2 T (volatility, time, total variance), k = log(K / F) (strike, forward,
log-moneyness), and Black-76, which gives price and deltas from k and w, w from a price, and k from a delta. What is
given may be at any of their ends; a number that is given and follows from the others is a contradiction.
"""

from __future__ import annotations

import math
from typing import Any, Final, Literal, NamedTuple

from features.errors import ConfigError
from features.surface.black import black_delta, black_price, normal_cdf
from features.surface.conversions import (
    coin_price,
    discounted,
    discounted_delta,
    log_moneyness,
    premium_adjusted_delta,
    quote_price,
    strike_for_delta,
    strike_for_inverse_delta,
    strike_of,
    total_variance,
    undiscounted,
    volatility_of,
    years_of,
)
from features.surface.inversion import MAX_DEVIATION, MAX_LOG_RATIO, implied_volatility

Convention = Literal["forward", "discounted", "inverse"]

UNITS: Final = {
    "volatility": "1/sqrt(year)",
    "volatility a day": "1/sqrt(day)",
    "time to expiry": "years",
    "total variance": "1",
    "standard deviation": "1",
    "forward": "quote currency",
    "strike": "quote currency",
    "log-moneyness": "1",
    "discount factor": "1",
    "d1": "1",
    "d2": "1",
    "price": "quote currency",
    "coin price": "coin",
    "discounted price": "quote currency",
    "forward delta": "1",
    "discounted delta": "1",
    "inverse delta": "1",
}
"""Unit of each result, in the order in which they are shown."""

_LEAST: Final = 1e-30
_MOST: Final = 1e15
"""Sizes of numbers whose squares and quotients are finite."""

_PRICES: Final = ("price", "coin_price", "discounted_price")


class Given(NamedTuple):
    """What is known, each as the option of the same name; None for what is not.

    Args:
        volatility: 1 / sqrt(year).
        total_variance, log_moneyness, discount: dimensionless.
        days, years: to expiry; a year has 365 days.
        forward, strike, price, discounted_price: in quote currency; ``price`` is undiscounted.
        coin_price: in coin.
        delta: in ``convention``; negative for puts.
        is_call: call or put.
    """

    volatility: float | None = None
    total_variance: float | None = None
    days: float | None = None
    years: float | None = None
    forward: float | None = None
    strike: float | None = None
    log_moneyness: float | None = None
    discount: float | None = None
    price: float | None = None
    coin_price: float | None = None
    discounted_price: float | None = None
    delta: float | None = None
    convention: Convention = "forward"
    is_call: bool | None = None


class Row(NamedTuple):
    """One result."""

    name: str
    value: float
    unit: str
    equation: str


class Conversion(NamedTuple):
    """Results in the order of ``UNITS``, and in a sentence what else could follow; empty where nothing could."""

    rows: tuple[Row, ...]
    hint: str


def shown(value: float) -> str:
    """Six significant digits, and cents of what is large.

    >>> shown(0.02222465753), shown(65123.456), shown(70_000.0)
    ('0.0222247', '65123.46', '70000')
    """
    return f"{value:.2f}".removesuffix(".00") if 1e4 <= abs(value) < 1e12 else f"{value:.6g}"


def convert(given: Given) -> Conversion:
    """Everything that follows.

    Raises:
        ConfigError: numbers contradict each other, are impossible, or lead nowhere without another.
    """
    _check(given)
    derivation = _Derivation(given)
    derivation.moneyness()
    derivation.variance()
    derivation.strike_of_delta()
    derivation.black()
    rows = tuple(derivation.rows[name] for name in UNITS if name in derivation.rows)
    if all(row.equation == "given" for row in rows):
        raise ConfigError(
            "Nothing follows from this." if rows else "No number is given.",
            "Give two of --volatility, --days and --total-variance, or --forward and --strike: "
            "hedgeflow vol convert --volatility 52% --days 30.",
        )
    return Conversion(rows, derivation.hint())


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _check(given: Given) -> None:
    """Numbers that are possible by themselves, and none too many."""
    known = {name: value for name, value in given._asdict().items() if value is not None}
    for name, value in known.items():
        if isinstance(value, float) and value != 0.0 and not _LEAST <= abs(value) <= _MOST:
            raise ConfigError(f"{_flag(name)} is {value:g}.", f"Its size must lie between {_LEAST:g} and {_MOST:g}.")
    for name in ("forward", "strike", "discount"):
        if known.get(name, 1.0) <= 0.0:
            raise ConfigError(f"{_flag(name)} is {shown(known[name])}.", "It must be positive.")
    for name in ("volatility", "total_variance", "days", "years", *_PRICES):
        if known.get(name, 0.0) < 0.0:
            raise ConfigError(f"{_flag(name)} is {shown(known[name])}.", "It must not be negative.")
    time = _one_of(known, ("days", "years"), "the time to expiry")
    variance = _one_of(known, ("total_variance", *_PRICES), "the total variance")
    if time and variance and "volatility" in known:
        raise ConfigError(
            f"--volatility and {_flag(time)} say the total variance, and so does {_flag(variance)}.",
            "Leave one of the three out.",
        )
    if {"forward", "strike", "log_moneyness"} <= known.keys():
        raise ConfigError(
            "--forward and --strike say the log-moneyness, and so does --log-moneyness.", "Leave one of the three out."
        )
    if "delta" in known:
        _one_of(known, ("delta", "strike", "log_moneyness"), "the strike")
        _check_delta(given)


def _one_of(known: dict[str, Any], names: tuple[str, ...], what: str) -> str | None:
    """The one that is given."""
    found = [name for name in names if name in known]
    if len(found) > 1:
        raise ConfigError(f"{' and '.join(map(_flag, found))} each say {what}.", "Give only one of them.")
    return found[0] if found else None


def _check_delta(given: Given) -> None:
    assert given.delta is not None
    if given.is_call is not None and given.delta != 0.0 and given.is_call != (given.delta > 0.0):
        kind, sign = ("call", "positive") if given.is_call else ("put", "negative")
        raise ConfigError(
            f"--delta is {shown(given.delta)}, and that of a {kind} is {sign}.",
            f"Write --delta {shown(-given.delta)}, or --{'put' if given.is_call else 'call'}.",
        )
    if given.convention == "discounted" and given.discount is None:
        raise ConfigError("--delta is discounted, and the discount factor is unknown.", "Give --discount.")


class _Derivation:
    """The numbers as they become known, and the rows that say how."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self.rows: dict[str, Row] = {}
        self.forward = given.forward
        self.strike = given.strike
        self.k = given.log_moneyness
        self.w = given.total_variance
        self.is_call = given.is_call
        if given.delta is not None and self.is_call is None:
            self.is_call = given.delta > 0.0
        if given.discount is not None:
            self._add("discount factor", given.discount)

    def _add(self, name: str, value: Any, equation: str = "") -> float:
        """A result, and in its equation what came out; without one it was given."""
        number = float(value)
        text = f"{equation} = {shown(number)}" if equation else "given"
        self.rows[name] = Row(name, number, UNITS[name], text)
        return number

    def moneyness(self) -> None:
        """Two of forward, strike and log-moneyness give the third."""
        self._check_range()
        for name, value in (("forward", self.forward), ("strike", self.strike), ("log-moneyness", self.k)):
            if value is not None:
                self._add(name, value)
        if self.forward is not None and self.strike is not None:
            text = f"k = log(K / F) = log({shown(self.strike)} / {shown(self.forward)})"
            self.k = self._add("log-moneyness", log_moneyness(self.strike, self.forward), text)
        elif self.forward is not None and self.k is not None:
            self._strike("K = F exp(k)")
        elif self.strike is not None and self.k is not None:
            text = f"F = K exp(-k) = {shown(self.strike)} x exp({shown(-self.k)})"
            self.forward = self._add("forward", strike_of(-self.k, self.strike), text)

    def _strike(self, equation: str) -> None:
        assert self.forward is not None
        assert self.k is not None
        text = f"{equation} = {shown(self.forward)} x exp({shown(self.k)})"
        self.strike = self._add("strike", strike_of(self.k, self.forward), text)

    def variance(self) -> None:
        """Two of volatility, time and total variance give the third; a price gives the total variance."""
        given = self.given
        years, time = given.years, "" if given.years is None else shown(given.years)
        if given.days is not None:
            time = f"{shown(given.days)}/365"
            years = self._add("time to expiry", years_of(given.days), f"T = days / 365 = {time}")
        elif years is not None:
            self._add("time to expiry", years)
        volatility = given.volatility
        if volatility is not None:
            self._add("volatility", volatility)
        if self.w is not None:
            self._add("total variance", self.w)
        self._variance_of_price()
        if volatility is not None and years is not None:
            text = f"w = s^2 T = {shown(volatility)}^2 x {time}"
            self.w = self._add("total variance", total_variance(volatility, years), text)
        elif self.w is not None and years is not None:
            if years == 0.0:
                what = next((_flag(each) for each in _PRICES if getattr(given, each) is not None), "a total variance")
                raise ConfigError(f"At expiry no volatility follows from {what}.", "Leave the time out.")
            text = f"s = sqrt(w / T) = sqrt({shown(self.w)} / ({time}))"
            volatility = self._add("volatility", volatility_of(self.w, years), text)
        elif self.w is not None and volatility is not None:
            if volatility == 0.0:
                raise ConfigError("No time follows from a volatility of 0.", "Give --days in place of it.")
            text = f"T = w / s^2 = {shown(self.w)} / {shown(volatility)}^2"
            self._add("time to expiry", self.w / volatility**2, text)
        if volatility is not None:
            self._add(
                "volatility a day", volatility / math.sqrt(365.0), f"s / sqrt(365) = {shown(volatility)} / 19.105"
            )
        if self.w is not None:
            self._add("standard deviation", math.sqrt(self.w), f"sqrt(w) = sqrt({shown(self.w)})")

    def _variance_of_price(self) -> None:
        """Total variance from a price: that of a volatility over one year."""
        given = self.given
        name = next((each for each in _PRICES if getattr(given, each) is not None), None)
        if name is None:
            return
        if given.delta is not None:
            raise ConfigError(
                f"--delta says the strike only with a volatility, and {_flag(name)} says that only with a strike.",
                "Give --strike in place of --delta, or --volatility and --days in place of the price.",
            )
        lacking = [
            flag
            for flag, is_known in (
                ("--strike", self.k is not None or self.strike is not None),
                ("--forward", self.forward is not None or (name == "coin_price" and self.k is not None)),
                ("--call or --put", self.is_call is not None),
                ("--discount", given.discount is not None or name != "discounted_price"),
            )
            if not is_known
        ]
        if lacking:
            raise ConfigError(f"No volatility follows from {_flag(name)} alone.", f"Give {', '.join(lacking)} too.")
        assert self.k is not None
        self._check_range()
        self._add(name.replace("_", " "), getattr(given, name))
        forward = 1.0 if self.forward is None else self.forward
        strike = math.exp(self.k) if self.strike is None else self.strike
        if given.price is not None:
            price = given.price
        elif given.coin_price is not None:
            price = float(quote_price(given.coin_price, forward))
        else:
            assert given.discounted_price is not None
            assert given.discount is not None
            text = f"V = {shown(given.discounted_price)} / {shown(given.discount)}"
            price = self._add("price", undiscounted(given.discounted_price, given.discount), text)
        deviation = float(implied_volatility(price, forward, strike, 1.0, self.is_call or False))
        if math.isnan(deviation):
            low = max(forward - strike, 0.0) if self.is_call else max(strike - forward, 0.0)
            high, bound = (forward, "forward") if self.is_call else (strike, "strike")
            unit = " of the forward" if self.forward is None else ""
            raise ConfigError(
                f"No volatility gives a price of {shown(price)}{unit}: it must lie above its intrinsic value "
                f"{shown(low)} and below the {bound} {shown(high)}.",
                f"Check {_flag(name)}, --strike, and --call or --put.",
            )
        unit, ratio = ("F ", "K ") if self.forward is not None else ("", "exp(k) ")
        black = f"{unit}N(d1) - {ratio}N(d2)" if self.is_call else f"{ratio}N(-d2) - {unit}N(-d1)"
        self.w = self._add("total variance", deviation**2, f"w solves {black} = {shown(price)}: w")

    def _check_range(self) -> None:
        if self.k is not None and not abs(self.k) < MAX_LOG_RATIO:
            raise ConfigError(f"A log-moneyness of {shown(self.k)} leaves no digits.", "Check --strike and --forward.")
        if self.w is not None and not self.w < MAX_DEVIATION**2:
            raise ConfigError(
                f"A total variance of {shown(self.w)} leaves no digits.",
                "Check --total-variance."
                if self.given.total_variance is not None
                else "Check --volatility and --days.",
            )

    def strike_of_delta(self) -> None:
        """The strike that has the given delta."""
        given = self.given
        if given.delta is None:
            return
        if self.w is None:
            raise ConfigError(
                "No strike follows from --delta alone.", "Give two of --volatility, --days and --total-variance too."
            )
        self._check_range()
        phi, delta = (1.0 if self.is_call else -1.0), given.delta
        if given.convention == "discounted":
            assert given.discount is not None
            delta /= given.discount
        find = strike_for_inverse_delta if given.convention == "inverse" else strike_for_delta
        k = float(log_moneyness(find(delta, 1.0, 1.0, math.sqrt(self.w), bool(self.is_call)), 1.0))
        if math.isnan(k):
            kind = "call" if self.is_call else "put"
            raise ConfigError(
                f"No {kind} has the {given.convention} delta {shown(given.delta)} at a total variance of "
                f"{shown(self.w)}.",
                "Give one between 0 and 1 for a call, -1 and 0 for a put; of calls, inverse deltas end earlier.",
            )
        if given.convention == "inverse":
            side, which = ("exp(k) N(d2)", ", the higher one") if self.is_call else ("-exp(k) N(-d2)", "")
            text = f"k solves {side} = {shown(delta)}{which}: k"
        else:
            text = (
                f"k = -phi N^-1(phi delta) sqrt(w) + w/2 = "
                f"{shown(-phi)} x N^-1({shown(phi * delta)}) x {shown(math.sqrt(self.w))} + {shown(self.w)}/2"
            )
        self.k = self._add("log-moneyness", k, text)
        if self.forward is not None:
            self._strike("K = F exp(k)")

    def black(self) -> None:
        """Price and deltas, in every convention that is known."""
        if self.k is None or self.w is None:
            return
        self._check_range()
        forward = 1.0 if self.forward is None else self.forward
        strike = math.exp(self.k) if self.strike is None else self.strike
        deviation = math.sqrt(self.w)
        if deviation > 0.0:
            text = f"-k / sqrt(w) + sqrt(w)/2 = {shown(-self.k)} / {shown(deviation)} + {shown(deviation)}/2"
            d1 = self._add("d1", -self.k / deviation + 0.5 * deviation, text)
            self._add("d2", d1 - deviation, f"d1 - sqrt(w) = {shown(d1)} - {shown(deviation)}")
        if self.is_call is None:
            return
        option = (forward, strike, 1.0, deviation, self.is_call)
        delta = self._delta(float(black_delta(*option)))
        price = float(black_price(*option))
        if self.forward is not None and "price" not in self.rows:
            self._add("price", price, self._price_equation(forward, strike))
        if "coin price" not in self.rows:
            known = self.forward is not None
            text = f"v = V / F = {shown(price)} / {shown(forward)}" if known else self._price_equation(1.0, strike)
            self._add("coin price", coin_price(price, forward), text)
        coin = self.rows["coin price"].value
        if self.given.discount is not None and self.forward is not None and "discounted price" not in self.rows:
            text = f"D V = {shown(self.given.discount)} x {shown(price)}"
            self._add("discounted price", discounted(price, self.given.discount), text)
        if self.given.discount is not None:
            text = f"D delta = {shown(self.given.discount)} x {shown(delta)}"
            self._add("discounted delta", discounted_delta(delta, self.given.discount), text)
        text = f"delta - V / F = {shown(delta)} - {shown(coin)}"
        self._add("inverse delta", premium_adjusted_delta(delta, coin), text)

    def _delta(self, delta: float) -> float:
        if "d1" not in self.rows:
            return self._add("forward delta", delta, "the slope of the intrinsic value")
        d1 = self.rows["d1"].value
        return self._add(
            "forward delta", delta, f"N(d1) = N({shown(d1)})" if self.is_call else f"-N(-d1) = -N({shown(-d1)})"
        )

    def _price_equation(self, forward: float, strike: float) -> str:
        """With the numbers put in; of a forward of 1 it is the coin price."""
        name, unit, ratio = ("V", "F ", "K ") if self.forward is not None else ("v", "", "exp(k) ")
        f, k = ("" if self.forward is None else f"{shown(forward)} x "), f"{shown(strike)} x "
        if "d1" not in self.rows:
            first, second = (shown(forward), shown(strike)) if self.is_call else (shown(strike), shown(forward))
            return f"{name} = max({first} - {second}, 0)"
        d1, d2 = self.rows["d1"].value, self.rows["d2"].value
        if self.is_call:
            numbers = f"{f}{shown(normal_cdf(d1))} - {k}{shown(normal_cdf(d2))}"
            return f"{name} = {unit}N(d1) - {ratio}N(d2) = {numbers}"
        numbers = f"{k}{shown(normal_cdf(-d2))} - {f}{shown(normal_cdf(-d1))}"
        return f"{name} = {ratio}N(-d2) - {unit}N(-d1) = {numbers}"

    def hint(self) -> str:
        """What would lead further."""
        if self.w is None:
            return "Two of --volatility, --days (or --years) and --total-variance say the third."
        if self.forward is self.strike is self.k is self.is_call is self.given.discount is None:
            return ""
        lacking = []
        if self.k is None:
            known = (("--forward", self.forward), ("--strike", self.strike))
            lacking += [flag for flag, value in known if value is None]
        if self.is_call is None:
            lacking.append("--call or --put")
        if lacking:
            return f"Price and deltas need {' and '.join(lacking)}."
        return "" if self.forward is not None else "Prices in quote currency need --forward."
