"""Dead letters: what could not be used, read back from the topic or the lake, and looked at again with today's code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from features.errors import BadInputError, HedgeflowError
from pipeline.codec import KIND_HEADER, UndecodableError, decode_event, decode_rows, row_schemas
from pipeline.kafka import BrokerError, header, make_reader, read_to_end, require_broker
from pipeline.log import KEPT_BYTES
from pipeline.settings import Settings
from pipeline.topics import DEAD_LETTER, EVENTS

_NANOS_PER_MILLI: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Letter:
    """One message of the topic ``dead-letter``.

    Args:
        partition: of the dead-letter topic.
        offset: of the dead-letter topic.
        when_ns: when the broker took it, ns since the epoch.
        reason: a short fixed word.
        detail: what exactly was wrong.
        rows: how many rows were refused.
        stage: the worker that refused them; empty for a source.
        origin: where a source had them from; empty for a worker.
        source: topic, partition and offset of the message; None for a source's own input.
        key: of that message; None when the letter does not tell.
        kind: its ``kind`` header; None when the letter does not tell.
        payload: its bytes.
        whole: False when they were too many to keep all.
    """

    partition: int
    offset: int
    when_ns: int
    reason: str
    detail: str
    rows: int
    stage: str
    origin: str
    source: tuple[str, int, int] | None
    key: str | None
    kind: str | None
    payload: bytes
    whole: bool = True

    @property
    def id(self) -> str:
        """What an operator calls it by: topic, partition and offset."""
        return f"{DEAD_LETTER}/{self.partition}/{self.offset}"

    @property
    def where(self) -> str:
        """Where the message came from."""
        return "/".join(str(part) for part in self.source) if self.source else self.origin


@dataclass(frozen=True, slots=True)
class Choice:
    """Which letters are meant; what is left out does not restrict.

    Args:
        ids: by name.
        reason: by reason.
        stage: by the worker that refused.
        since_ns: not older than this.
    """

    ids: frozenset[tuple[int, int]] = frozenset()
    reason: str | None = None
    stage: str | None = None
    since_ns: int = 0

    def takes(self, letter: Letter) -> bool:
        """Whether ``letter`` is meant."""
        return (
            (not self.ids or (letter.partition, letter.offset) in self.ids)
            and self.reason in (None, letter.reason)
            and self.stage in (None, letter.stage)
            and letter.when_ns >= self.since_ns
        )


def parse_id(text: str) -> tuple[int, int]:
    """Partition and offset of a letter's name, which may be cut to ``partition/offset`` or to the offset.

    >>> parse_id("dead-letter/0/17"), parse_id("17")
    ((0, 17), (0, 17))

    Raises:
        BadInputError: it is no such name.
    """
    parts = text.removeprefix(f"{DEAD_LETTER}/").split("/")
    if len(parts) > 2 or not all(part.isdecimal() for part in parts):
        raise BadInputError(f"{text!r} names no dead letter.", f"A name is {DEAD_LETTER}/0/17, or 17.")
    numbers = [int(part) for part in parts]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (0, numbers[0])


def where_of(message: Any, stage: str) -> dict[str, str]:
    """The headers of a letter about ``message`` that tell where it came from and let it be put back."""
    where = {
        "stage": stage,
        "topic": message.topic(),
        "partition": str(message.partition()),
        "offset": str(message.offset()),
        "source_kind": header(message, KIND_HEADER) or "",
    }
    try:
        return {**where, "source_key": (message.key() or b"").decode()}
    except UnicodeDecodeError:
        return where


def topic_letters(settings: Settings, choice: Choice) -> Iterator[Letter]:
    """The letters that the broker still holds, the oldest first.

    Raises:
        BrokerError: the broker is gone, or has no topic of dead letters.
    """
    found = require_broker(settings).topics.get(DEAD_LETTER)
    if found is None:
        raise BrokerError(f"{settings.bootstrap} has no topic {DEAD_LETTER}.", "`hedgeflow topics create`.")
    reader = make_reader(settings)
    try:
        positions = [TopicPartition(DEAD_LETTER, partition, OFFSET_BEGINNING) for partition in found.partitions]
        yield from (letter for letter in map(letter_of, read_to_end(reader, positions)) if choice.takes(letter))
    finally:
        reader.close()


def letter_of(message: Any) -> Letter:
    """A letter from its message; what a foreign writer left out is empty."""
    names = ("reason", "detail", "stage", "origin", "topic", "partition", "offset", "rows", "size")
    texts = {name: header(message, name) for name in names}
    payload = message.value() or b""
    return Letter(
        partition=message.partition(),
        offset=message.offset(),
        when_ns=message.timestamp()[1] * _NANOS_PER_MILLI,
        reason=texts["reason"] or "",
        detail=texts["detail"] or "",
        rows=_number(texts["rows"], 1),
        stage=texts["stage"] or "",
        origin=texts["origin"] or "",
        source=_source(texts["topic"], texts["partition"], texts["offset"]),
        key=header(message, "source_key"),
        kind=header(message, "source_kind"),
        payload=payload,
        whole=_number(texts["size"], len(payload)) <= len(payload),
    )


def lake_letters(settings: Settings, choice: Choice) -> Iterator[Letter]:
    """The letters that the lake holds, the oldest first; it keeps them when the broker no longer does.

    Raises:
        LakeError: there is no lake.
    """
    from pipeline.query import open_lake

    with open_lake(settings.lake) as lake:
        rows = lake.execute("SELECT * FROM dead_letters ORDER BY topic_partition, topic_offset")
        names = [column[0] for column in rows.description]
        while batch := rows.fetchmany(1_000):
            for values in batch:
                letter = _stored(dict(zip(names, values, strict=True)))
                if choice.takes(letter):
                    yield letter


def _stored(row: Mapping[str, Any]) -> Letter:
    payload = bytes(row["payload"] or b"")
    return Letter(
        partition=row["topic_partition"],
        offset=row["topic_offset"],
        when_ns=row["ts_event"],
        reason=row["reason"] or "",
        detail=row["detail"] or "",
        rows=1 if row["rows"] is None else row["rows"],
        stage=row["stage"] or "",
        origin=row["origin"] or "",
        source=_source(row["source_topic"], row["source_partition"], row["source_offset"]),
        key=row.get("source_key"),
        kind=row.get("source_kind"),
        payload=payload,
        whole=len(payload) < KEPT_BYTES,
    )


def require_letter(letters: Iterable[Letter], name: str) -> Letter:
    """The first of ``letters``.

    Raises:
        BadInputError: there is none, so ``name`` is unknown.
    """
    for letter in letters:
        return letter
    raise BadInputError(f"There is no dead letter {name}.", "`hedgeflow dead-letters list` names them.")


def decode_again(letter: Letter, settings: Settings) -> str:
    """What today's code makes of the bytes: what they hold, or the precise error."""
    try:
        if letter.source is None:
            return "a source refused it before it had a kind: the source's own input tells more"
        if letter.source[0] == EVENTS:
            data = decode_event(letter.kind or "", letter.key or "", letter.payload).data
            return f"{data.num_rows} row(s) of kind {letter.kind}: it can be read now"
        if letter.kind in (schemas := _schemas(settings)):
            return f"{decode_rows(letter.kind or '', letter.payload, schemas).num_rows} row(s): it can be read now"
        msgspec.json.decode(letter.payload)
        return "JSON: it can be parsed now"
    except UndecodableError as error:
        return f"{error.reason}: {error.detail}"
    except HedgeflowError as error:
        return str(error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return f"no JSON: {error}"


def _schemas(settings: Settings) -> Mapping[str, Any]:
    from pipeline.user_features import catalogue_of

    return row_schemas(catalogue_of(settings))


def _source(topic: str | None, partition: Any, offset: Any) -> tuple[str, int, int] | None:
    numbers = (_number(partition, -1), _number(offset, -1))
    return (topic, *numbers) if topic and min(numbers) >= 0 else None


def _number(value: Any, otherwise: int) -> int:
    try:
        return otherwise if value is None else int(value)
    except ValueError:
        return otherwise
