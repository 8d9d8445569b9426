"""What a person orders goes into the decision log first, like everything that may change a decision."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from hedger.inputs import Input


def append(settings: Any, make: Callable[[str], Input]) -> None:
    """Append one input for the portfolio in force, and wait until it is acknowledged."""
    from hedger.inputs import encode_input
    from pipeline.codec import KIND_HEADER
    from pipeline.kafka import require_broker
    from pipeline.log import Outbox
    from pipeline.portfolios import read_portfolio
    from pipeline.topics import DECISION_INPUTS

    name = read_portfolio(settings.portfolio).name
    require_broker(settings)
    item = make(f"person:{time.time_ns()}")
    outbox = Outbox(settings, linger_ms=0)
    outbox.send(DECISION_INPUTS, 0, name, encode_input(item), {KIND_HEADER: "input", "portfolio": name})
    outbox.flush()
    typer.echo(f"{item.input_id} appended to {DECISION_INPUTS}")
