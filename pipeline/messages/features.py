"""Features of each message by itself: columns in, columns out, no state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import polars as pl
import pyarrow as pa

from features.errors import ConfigError
from features.stage import Keyed, StageOutput
from pipeline.messages.declaration import OFFSET
from pipeline.messages.fields import TYPES


@dataclass(frozen=True)
class MessageFeatures:
    """Elementwise expressions over the fields of a message; a row a message.

    A float that is not finite is null: it is unknown, not a number. Every row carries ``source_offset``.

    Args:
        fields: what is read of a message, by name: ``str``, ``int``, ``float`` or ``bool``.
        rows: the columns that go out: an expression, or the name of a field.
        accepts: messages for which it is not true become dead letters.
    """

    fields: Mapping[str, type]
    rows: Mapping[str, pl.Expr | str]
    accepts: pl.Expr | None = None

    @cached_property
    def schema(self) -> pa.Schema:
        """Of the rows; found by running the expressions over no row.

        Raises:
            ConfigError: an expression does not fit the fields.
        """
        none = pl.DataFrame(schema={**{name: TYPES[each] for name, each in self.fields.items()}, OFFSET: pl.Int64})
        try:
            arrow: pa.Schema = none.select(pl.col(OFFSET), **self._plain).to_arrow(compat_level=_COMPATIBLE).schema
        except pl.exceptions.PolarsError as error:
            raise ConfigError(
                f"The rows cannot be computed: {error}.", "Expressions read the declared fields."
            ) from error
        return arrow

    @property
    def _plain(self) -> dict[str, pl.Expr]:
        return {name: pl.col(each) if isinstance(each, str) else each for name, each in self.rows.items()}

    def stage(self) -> _RowStage:
        """Computes the rows."""
        floats = {field.name for field in self.schema if pa.types.is_floating(field.type)}
        finite = {
            name: pl.when(each.is_finite()).then(each) if name in floats else each for name, each in self._plain.items()
        }
        return _RowStage(finite)


_COMPATIBLE = pl.CompatLevel.oldest()


class _RowStage:
    """Nothing is kept from row to row."""

    def __init__(self, rows: Mapping[str, pl.Expr]) -> None:
        self._rows = dict(rows)

    def process(self, frame: pl.DataFrame) -> StageOutput:
        """A row a row."""
        table = frame.select(pl.col(OFFSET), **self._rows).to_arrow(compat_level=_COMPATIBLE)
        return StageOutput([Keyed("", data) for data in table.combine_chunks().to_batches()])

    def snapshot(self) -> Mapping[str, bytes]:
        """Nothing."""
        return {}

    def restore(self, state: Mapping[str, bytes]) -> None:
        """Nothing."""
