"""JSON as columns: what fits is a row, what does not is told with its position."""

from __future__ import annotations

import pytest

from features.errors import ConfigError
from pipeline.messages.fields import Fields
from pipeline.sources.base import UnusableError

FIELDS = Fields({"symbol": str, "ts": int, "price": float, "firm": bool})


def frame(*payloads: bytes) -> tuple[list[tuple[object, ...]], list[int] | None, dict[int, str]]:
    refused: dict[int, str] = {}

    def refuse(at: int, error: UnusableError) -> None:
        refused[at] = error.reason

    rows, kept = FIELDS.frame(payloads, refuse)
    return rows.rows(), kept, refused


GOOD = b'{"symbol": "A", "ts": 7, "price": 1.5, "firm": true, "more": {"a": [1]}}'


def test_messages_are_rows() -> None:
    quoted = b'{"firm": false, "price": "2.25", "ts": "8", "symbol": "B"}'
    assert frame(GOOD, quoted) == ([("A", 7, 1.5, True), ("B", 8, 2.25, False)], None, {})


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "broken_json"),
        (b"\xff\xfe", "broken_json"),
        (GOOD + b"," + GOOD, "broken_json"),
        (b"[1]", "unexpected_form"),
        (b'{"symbol": "A", "ts": 7, "price": 1.5}', "unexpected_form"),
        (b'{"symbol": null, "ts": 7, "price": 1.5, "firm": true}', "unexpected_form"),
        (b'{"symbol": "A", "ts": 9223372036854775808, "price": 1, "firm": true}', "unexpected_form"),
        (b'{"symbol": "A", "ts": 1, "price": 1e999, "firm": true}', "unexpected_form"),
    ],
)
def test_what_does_not_fit_is_told(payload: bytes, reason: str) -> None:
    assert frame(GOOD, payload, GOOD) == ([("A", 7, 1.5, True)] * 2, [0, 2], {1: reason})


def test_all_may_be_refused() -> None:
    assert frame(b"x", b"y") == ([], [], {0: "broken_json", 1: "broken_json"})


def test_types_are_checked_when_declared() -> None:
    with pytest.raises(ConfigError, match="price"):
        Fields({"price": list})
