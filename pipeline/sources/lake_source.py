"""Our own lake as a source: what was recorded goes into another log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from features.events import EDGE_COLUMNS, EventBatch
from pipeline.lake import require_lake
from pipeline.raw_reader import read_log


class LakeSource:
    """The raw tables of a lake, in the order of the log that filled them.

    The edge numbers the rows anew: a row that was lost before it reached the lake is no longer told by a jump of
    ``seq``, but a book still sees it by its chain of ids.

    Raises:
        LakeError: there is no lake.
    """

    name = "lake"

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        require_lake(self.path)

    def batches(self) -> Iterator[EventBatch]:
        """All raw events."""
        for batch in read_log(self.path):
            data = batch.data
            for name in EDGE_COLUMNS:
                at = data.schema.get_field_index(name)
                zero = pa.array(np.zeros(data.num_rows, dtype=data.schema.field(at).type.to_pandas_dtype()))
                data = data.set_column(at, data.schema.field(at), zero)
            yield EventBatch(batch.kind, batch.underlying, data)
