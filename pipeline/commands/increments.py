"""The option ``--increment``."""

from __future__ import annotations

from typing import Annotated

import typer

IncrementsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--increment",
        help="Of a Tardis instrument, NAME=PRICE,SIZE, such as bitmex:XBTUSD=0.5,1; * in a name stands for anything. "
        "Without it, the files' decimals tell.",
        show_default=False,
    ),
]


def increments_of(options: list[str] | None) -> dict[str, tuple[str, str]]:
    """The options as :class:`pipeline.sources.tardis.TardisFiles` takes them.

    Raises:
        ConfigError: one is not of the form NAME=PRICE,SIZE.
    """
    from features.errors import ConfigError

    found: dict[str, tuple[str, str]] = {}
    for option in options or ():
        name, _, numbers = option.partition("=")
        price, _, size = numbers.partition(",")
        if not (name and price and size):
            raise ConfigError(f"--increment {option} is not NAME=PRICE,SIZE.", "Such as bitmex:XBTUSD=0.5,1.")
        found[name] = price, size
    return found
