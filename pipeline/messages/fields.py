"""JSON messages as the columns of a frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec
import polars as pl

from features.errors import ConfigError
from pipeline.sources.base import UnusableError

TYPES: Final[Mapping[type, Any]] = {str: pl.String, int: pl.Int64, float: pl.Float64, bool: pl.Boolean}

INT64: Final = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]

Refuse = Callable[[int, UnusableError], None]
"""(position of a message, why it cannot be used)"""


class Fields:
    """What is read of every message; other fields are passed over without being parsed into objects.

    Args:
        fields: name -> ``str``, ``int``, ``float`` or ``bool``; all are required. A number may stand in quotes.

    Raises:
        ConfigError: a type is none of these, or a name is no identifier.
    """

    def __init__(self, fields: Mapping[str, type]) -> None:
        for name, type_ in fields.items():
            if type_ not in TYPES or not name.isidentifier():
                known = ", ".join(each.__name__ for each in TYPES)
                raise ConfigError(f"The field {name!r} of type {type_!r} cannot be read.", f"Types are {known}.")
        self._columns = [(name, TYPES[type_]) for name, type_ in fields.items()]
        typed = [(name, INT64 if type_ is int else type_) for name, type_ in fields.items()]
        made = msgspec.defstruct("Message", typed, gc=False)
        self._decode = msgspec.json.Decoder(made, strict=False).decode

    def frame(self, payloads: Sequence[bytes], refuse: Refuse) -> tuple[pl.DataFrame, list[int] | None]:
        """The messages that can be used, as rows.

        Args:
            payloads: one JSON object each.
            refuse: is told of the others.

        Returns:
            the rows, and the positions of their messages; None: it is all of them.
        """
        kept: list[int] | None = None
        try:
            messages = list(map(self._decode, payloads))
        except (msgspec.DecodeError, UnicodeDecodeError):
            messages, kept = self._one_by_one(payloads, refuse)
        columns = [pl.Series(name, [getattr(each, name) for each in messages], type_) for name, type_ in self._columns]
        return pl.DataFrame(columns), kept

    def _one_by_one(self, payloads: Sequence[bytes], refuse: Refuse) -> tuple[list[Any], list[int]]:
        messages, kept = [], []
        for at, payload in enumerate(payloads):
            try:
                messages.append(self._decode(payload))
                kept.append(at)
            except msgspec.ValidationError as error:
                refuse(at, UnusableError("unexpected_form", str(error)))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                refuse(at, UnusableError("broken_json", str(error)))
        return messages, kept
