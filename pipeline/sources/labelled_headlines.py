"""Labelled headlines, to fit the text model on."""

from __future__ import annotations

import ast
import csv
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from features.alternative.fit_text import LabelledText
from features.alternative.text import CLASSES
from features.errors import BadInputError
from pipeline.sources.alternative_recorded import MINUTES
from pipeline.sources.alternative_time import ISO, parse_time
from pipeline.sources.base import OnReject, Reject, UnusableError, ignore_reject
from pipeline.sources.recording_lines import read_lines

LEXICON_NOTE: Final = (
    "The labels of these headlines came from a lexicon tool that scored their text (class, polarity, subjectivity), "
    "not from people: the metrics say how well that tool is imitated."
)


class LabelledHeadlines:
    """The labelled texts of a file, in its order.

    - JSON lines: ``{"time": "2024-01-31T09:30:00Z", "text": "...", "label": "positive", "polarity": 0.3}``; ``time``
      as ISO 8601, ``label`` one of ``CLASSES``, ``polarity`` optional.
    - CSV with semicolons, known by its header: ``date`` as 5-7-2022 04:24, ``text``, and ``sentiment`` as a Python
      dictionary with ``class`` and ``polarity``. Its labels are a lexicon tool's; ``note`` says so.

    What cannot be used is counted in ``rejected`` and handed to ``on_reject``: ``bad_record``, ``bad_time``,
    ``bad_label``, ``bad_value``, ``no_content``, and damage of the file as :func:`read_lines` says.

    Args:
        path: plain or gzip.
        on_reject: receives every record that could not be used.

    Raises:
        BadInputError: the file is missing or holds no labelled text.
    """

    def __init__(self, path: Path | str, on_reject: OnReject = ignore_reject) -> None:
        self.path = Path(path)
        self.rejected: Counter[str] = Counter()
        self.note = ""
        self._on_reject = on_reject
        self.texts = list(self._read())
        if not self.texts:
            raise BadInputError(
                f"{self.path} holds no labelled text.", 'A line is {"time": ..., "text": ..., "label": ...}.'
            )

    def _read(self) -> Iterator[LabelledText]:
        parse: Callable[[bytes], LabelledText] = _from_json
        for number, line in enumerate(read_lines(self.path, self._damaged), 1):
            if number == 1 and line.lstrip()[:1] != b"{":
                parse = _csv_parser(self.path, line)
                self.note = LEXICON_NOTE
            elif line.strip():
                try:
                    yield parse(line)
                except UnusableError as error:
                    self._refuse(error.reason, error.detail, number, line)

    def _damaged(self, reason: str, detail: str, line: int, tail: bytes) -> None:
        self._refuse(reason, detail, line + 1, tail)

    def _refuse(self, reason: str, detail: str, line: int, payload: bytes) -> None:
        self.rejected[reason] += 1
        self._on_reject(Reject(reason, detail, payload, f"{self.path}:{line}"))


def _from_json(line: bytes) -> LabelledText:
    try:
        record = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnusableError("bad_record", f"no JSON object: {error}") from error
    return _labelled(record.get("time"), ISO, record.get("text"), record.get("label"), record.get("polarity"))


def _csv_parser(path: Path, header: bytes) -> Callable[[bytes], LabelledText]:
    names = header.decode(errors="replace").strip().split(";")
    if not {"date", "text", "sentiment"} <= set(names):
        raise BadInputError(f"{path} has the columns {names}.", "Expected date, text and sentiment, or JSON lines.")

    def parse(line: bytes) -> LabelledText:
        try:
            (fields,) = csv.reader([line.decode().rstrip("\r")], delimiter=";")
            record = dict(zip(names, fields, strict=True))
            sentiment = ast.literal_eval(record["sentiment"])
        except (
            UnicodeDecodeError,
            csv.Error,
            ValueError,
            SyntaxError,
            TypeError,
            RecursionError,
            MemoryError,
        ) as error:
            raise UnusableError("bad_record", f"{type(error).__name__}: {error}") from error
        if not isinstance(sentiment, Mapping):
            raise UnusableError("bad_label", f"sentiment is {record['sentiment'][:80]!r}")
        return _labelled(record["date"], MINUTES, record["text"], sentiment.get("class"), sentiment.get("polarity"))

    return parse


def _labelled(time: Any, form: str, text: Any, label: Any, polarity: Any) -> LabelledText:
    if not isinstance(text, str) or not text.strip():
        raise UnusableError("no_content", "there is no text")
    if label not in CLASSES:
        raise UnusableError("bad_label", f"{label!r} is none of {', '.join(CLASSES)}")
    if polarity is None:
        polarity = math.nan
    elif isinstance(polarity, bool) or not isinstance(polarity, int | float) or not -1 <= polarity <= 1:
        raise UnusableError("bad_value", f"a polarity of {polarity!r}")
    return LabelledText(parse_time(time, form), text.strip(), label, float(polarity))
