"""What every source of market events promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from features.errors import BadInputError
from features.events import EventBatch


@dataclass(frozen=True, slots=True)
class Reject:
    """Input that a source could not use: a dead letter. The source counts it and goes on."""

    reason: str  # a short fixed word, by which dead letters are counted
    detail: str
    payload: bytes
    origin: str  # file:line, or the venue's stream


OnReject = Callable[[Reject], None]


def ignore_reject(reject: Reject) -> None:
    """Take no further notice: every source counts its rejects itself."""


class UnusableError(BadInputError):
    """One message that cannot be used; the source reports it as a :class:`Reject`.

    Args:
        reason: a short fixed word.
        detail: what exactly is wrong.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}.", "It is reported as a dead letter.")
        self.reason = reason
        self.detail = detail


class Source(Protocol):
    """Yields events in log order, with the edge columns left zero."""

    name: str

    def batches(self) -> Iterator[EventBatch]:
        """All events, once.

        Raises:
            BadInputError: there is nothing to read; a single message that cannot be used raises nothing.
        """
        ...
