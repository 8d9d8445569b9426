"""Letters as they are named, chosen, read and looked at again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from small_market import edged, small_market

from features.errors import BadInputError, ConfigError
from features.events import Kind
from pipeline.codec import encode
from pipeline.commands.readable import printable, readable
from pipeline.commands.since import since_ns
from pipeline.dead_letters import Choice, Letter, decode_again, letter_of, parse_id, where_of
from pipeline.settings import Settings

TRADE = {batch.kind: batch.data for batch in edged(small_market(5, seed=2))}[Kind.TRADE]
LETTER = Letter(0, 7, 5_000, "unknown_kind", "x", 1, "features", "", ("md.events", 1, 9), "BTC", "trade", b"{}")


class Message:
    """What a client hands over."""

    def __init__(self, headers: list[tuple[str, bytes]], key: bytes | None = b"BTC", value: bytes = b"abc") -> None:
        self._headers, self._key, self._value = headers, key, value

    def topic(self) -> str:
        return "md.events"

    def partition(self) -> int:
        return 1

    def offset(self) -> int:
        return 9

    def timestamp(self) -> tuple[int, int]:
        return 1, 5

    def __getattr__(self, name: str) -> Any:
        return lambda: getattr(self, f"_{name}")


def test_a_letter_tells_what_its_writer_told() -> None:
    where = where_of(Message([("kind", b"trade")]), "features")
    headers = [("reason", b"bad"), ("rows", b"3"), *((name, text.encode()) for name, text in where.items())]
    letter = letter_of(Message(headers))
    assert (letter.source, letter.key, letter.kind, letter.stage) == (("md.events", 1, 9), "BTC", "trade", "features")
    assert (letter.id, letter.where, letter.rows, letter.whole) == ("dead-letter/1/9", "md.events/1/9", 3, True)
    assert "source_key" not in where_of(Message([], key=b"\xff"), "features")
    assert not letter_of(Message([("size", b"900001")])).whole


def test_a_letter_of_a_foreign_writer_is_read_all_the_same() -> None:
    letter = letter_of(Message([("rows", b"\xff"), ("topic", b"t"), ("partition", b"x"), ("offset", b"1")], key=None))
    assert (letter.reason, letter.rows, letter.source, letter.key) == ("", 1, None, None)


@pytest.mark.parametrize("name", ["", "x", "1/2/3", "dead-letter/", "-1", "other/0/1"])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(BadInputError, match="names no dead letter"):
        parse_id(name)
    assert parse_id("dead-letter/0/17") == parse_id("0/17") == parse_id("17") == (0, 17)


def test_letters_are_chosen_by_everything_that_is_given() -> None:
    assert Choice().takes(LETTER)
    assert Choice(frozenset({(0, 7)}), "unknown_kind", "features", 5_000).takes(LETTER)
    others = (Choice(frozenset({(0, 8)})), Choice(reason="late"), Choice(stage="lake"), Choice(since_ns=5_001))
    assert not any(choice.takes(LETTER) for choice in others)


def test_a_letter_is_looked_at_with_todays_code() -> None:
    settings = Settings()
    assert (
        decode_again(replace(LETTER, payload=encode(TRADE)), settings) == "1 row(s) of kind trade: it can be read now"
    )
    assert decode_again(LETTER, settings).startswith("undecodable: ArrowInvalid")
    assert decode_again(replace(LETTER, kind="gossip"), settings) == "unknown_kind: kind 'gossip'"
    assert decode_again(replace(LETTER, source=("oms.fills", 0, 1)), settings) == "JSON: it can be parsed now"
    deep = replace(LETTER, source=("oms.fills", 0, 1), payload=b"[" * 100_000)
    assert decode_again(deep, settings).startswith("no JSON")
    assert "a source refused it" in decode_again(replace(LETTER, source=None), settings)


def test_bytes_of_others_do_nothing_to_a_terminal() -> None:
    assert printable("a\x1b[2Jb\u202e") == "a\\x1b[2Jb\\u202e"
    assert readable(b'{"a": "\\u001b[2J"}', 100).splitlines()[1].strip() == '"a": "\\u001b[2J"'
    assert readable(b"\x1b[2J" * 10, 16).splitlines() == [
        "00000000  1b 5b 32 4a 1b 5b 32 4a 1b 5b 32 4a 1b 5b 32 4a  .[2J.[2J.[2J.[2J",
        "... 24 more bytes (--bytes)",
    ]


def test_since() -> None:
    assert since_ns(None) == 0
    assert since_ns("2026-01-05") == since_ns("2026-01-05T01:00+01:00") == 1_767_571_200 * 10**9
    assert since_ns("2h") < since_ns("1h")
    with pytest.raises(ConfigError, match="is no time"):
        since_ns("yesterday")
