"""Putting dead letters back on their topic, each once, after what made them unusable was fixed.

A message that is put back gets a new place at the end of the log. Live workers and every backfill read the same log:
they agree on what it does there. What it does depends on what came meanwhile: rows carry their old ``seq``, and
whatever is not beyond the last one of its instrument and kind is ignored as a repeat. So letters help where nothing of
the kind came through since (reference data, an instrument that was unknown, a kind that an older worker did not know);
for a book that went on, they change nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from features.errors import BadInputError
from pipeline.codec import KIND_HEADER
from pipeline.dead_letters import Letter
from pipeline.kafka import BrokerError, create_topics, make_reader, read_to_end, require_broker
from pipeline.log import Outbox
from pipeline.settings import Settings
from pipeline.topics import EVENTS, REPLAYS, TOPICS

REPLAYED_HEADER: Final = "replayed"
"""Header of a message that was put back: the letter's name."""

STARTED: Final = "started"
SENT: Final = "sent"


class Receipt(msgspec.Struct, frozen=True):
    """That a message was put back; ``started`` alone: the replay ended before the broker had acknowledged it."""

    letter: str
    source: str
    state: str
    at_ns: int
    by: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a replay will do: the letters to put back in the order of the log, and why others stay."""

    letters: Sequence[Letter]
    kept: Sequence[tuple[Letter, str]]


def plan_replay(settings: Settings, letters: Iterable[Letter], *, force: bool = False) -> Plan:
    """Sort letters into those that can be put back and those that cannot.

    Several letters about one message count once: the message goes back whole, and what was taken of it before is
    ignored as a repeat.

    Args:
        force: also those that were put back before.

    Raises:
        BrokerError: the broker is gone.
    """
    done = read_receipts(settings)
    partitions = require_broker(settings).topics
    chosen: dict[str, Letter] = {}
    kept: list[tuple[Letter, str]] = []
    for letter in letters:
        receipt = done.get(letter.where)
        if (reason := _impossible(letter)) is not None:
            kept.append((letter, reason))
        elif EVENTS not in partitions or letter.source is None or letter.source[1] not in partitions[EVENTS].partitions:
            kept.append((letter, "this broker has no such partition"))
        elif receipt is not None and not force:
            kept.append((letter, _said(receipt)))
        elif letter.where in chosen:
            kept.append((letter, f"the same message as {chosen[letter.where].id}"))
        else:
            chosen[letter.where] = letter
    return Plan(sorted(chosen.values(), key=lambda letter: letter.source or ("", 0, 0)), kept)


def _impossible(letter: Letter) -> str | None:
    """Why this kind of letter is never put back."""
    if letter.source is None:
        return "a source refused it: fix the source and let it read its input again"
    if letter.source[0] != EVENTS:
        return f"only {EVENTS} is input; {letter.source[0]} is made from it and would be made the same again"
    if letter.key is None or letter.kind is None or "\ufffd" in letter.key:
        return "the letter does not tell the message's key and kind"
    return None if letter.whole else "the letter keeps only part of the message"


def _said(receipt: Receipt) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(receipt.at_ns // 1_000_000_000))
    if receipt.state == SENT:
        return f"put back {when} UTC by {receipt.by}"
    return f"a replay that began {when} UTC did not end: whether it was put back is not known"


def replay(settings: Settings, letters: Sequence[Letter], by: str) -> int:
    """Put the messages back under their key on their partition; how many.

    That it begins is recorded and acknowledged first. A replay that dies may thus leave out a letter, which then needs
    ``force``, but never puts one back twice.

    Raises:
        BrokerError: the broker does not take a message.
        BadInputError: a letter cannot be put back: see :func:`plan_replay`.
    """
    create_topics(settings, [TOPICS[REPLAYS]])
    outbox = Outbox(settings)
    for letter in letters:
        _record(outbox, letter, STARTED, by)
    outbox.flush()
    for letter in letters:
        if letter.source is None or (reason := _impossible(letter)) is not None:
            raise BadInputError(f"{letter.id} cannot be put back: {reason}.", "Plan the replay first.")
        headers = {KIND_HEADER: letter.kind or "", REPLAYED_HEADER: letter.id}
        outbox.send(letter.source[0], letter.source[1], letter.key or "", letter.payload, headers)
    outbox.flush()
    for letter in letters:
        _record(outbox, letter, SENT, by)
    outbox.flush()
    return len(letters)


def _record(outbox: Outbox, letter: Letter, state: str, by: str) -> None:
    receipt = Receipt(letter.id, letter.where, state, time.time_ns(), by)
    outbox.send(REPLAYS, 0, letter.where, msgspec.json.encode(receipt), {})


def read_receipts(settings: Settings) -> dict[str, Receipt]:
    """What was put back, by the place of the message in the log.

    Raises:
        BrokerError: the broker is gone, or the topic holds something else.
    """
    if REPLAYS not in require_broker(settings).topics:
        return {}
    found: dict[str, Receipt] = {}
    reader = make_reader(settings)
    try:
        for message in read_to_end(reader, [TopicPartition(REPLAYS, 0, OFFSET_BEGINNING)]):
            receipt = msgspec.json.decode(message.value() or b"", type=Receipt)
            found[receipt.source] = receipt
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BrokerError(
            f"The topic {REPLAYS} holds something that is no receipt: {error}.", "Find out who writes there."
        ) from error
    finally:
        reader.close()
    return found
