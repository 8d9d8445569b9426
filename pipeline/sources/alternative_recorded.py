"""Mappings of recorded alternative data: headlines, chain metrics, fear and greed, mean funding rates.

A daily figure is of the day that it names: it happened at that day's end (UTC) and was known an hour later. A headline
is stamped with its minute, or with 00:00 where only the day is known; it happened at the end of that minute or day and
was known a minute later. The recordings do not say when they could be had, so these delays are assumptions.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from features.errors import BadInputError
from pipeline.sources.alternative import AlternativeFile
from pipeline.sources.alternative_mapping import AlternativeMapping, RouteMapping, TextMapping, TimeMapping
from pipeline.sources.base import OnReject, ignore_reject

HEADLINES: Final = "cryptonews.csv.gz"

MINUTES: Final = "%d-%m-%Y %H:%M"
"""``5-7-2022 04:24``: day, month, year."""

_DAILY: Final = TimeMapping(field="date", format="%Y-%m-%d", period_s=86_400, delay_s=3_600)

RECORDED: Final[Mapping[str, AlternativeMapping]] = {
    HEADLINES: AlternativeMapping(
        source="cryptonews",
        underlyings=("BTC", "ETH"),
        form="csv",
        delimiter=";",
        time=TimeMapping(field="date", format=MINUTES, period_s=60, midnight_is_day=True, delay_s=60),
        text=TextMapping(fields=("text",)),
        route=RouteMapping(field="subject", to={"bitcoin": ("BTC",), "ethereum": ("ETH",)}),
    ),
    "coinmetrics.csv": AlternativeMapping(
        source="coinmetrics",
        underlyings=("BTC",),
        form="csv",
        time=_DAILY,
        values={"fees": "fees_btc", "active_addresses": "active_addresses", "transactions": "tx_count"},
    ),
    "fear_greed.csv": AlternativeMapping(
        source="fear-greed", underlyings=("BTC", "ETH"), form="csv", time=_DAILY, values={"fear_greed": "fng"}
    ),
    "funding_rates.csv": AlternativeMapping(
        source="funding-rates",
        underlyings=("BTC",),
        form="csv",
        time=_DAILY,
        values={"funding_rate_mean": "funding_mean", "funding_rate_absolute": "funding_abs"},
    ),
}
"""By file name. Headlines that are neither about bitcoin nor ethereum alone concern both."""


def recorded_files(folder: Path | str, on_reject: OnReject = ignore_reject) -> list[AlternativeFile]:
    """The recordings of a folder.

    Raises:
        BadInputError: it holds none of them.
    """
    paths = [Path(folder) / name for name in RECORDED]
    found = [AlternativeFile(path, RECORDED[path.name], on_reject) for path in paths if path.exists()]
    if not found:
        raise BadInputError(f"{folder} holds no recorded alternative data.", f"Expected {', '.join(RECORDED)}.")
    return found
