"""Which files a compaction merges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from pipeline.lake_files import DataFile, small

Bin = tuple[DataFile, ...]

MOST_TARGETS: Final = 8
"""Input of one commit, in target sizes: what a killed compaction does again, and what lies on disk twice."""


def plan(files: Iterable[DataFile], target_bytes: int) -> list[Bin]:
    """Runs of small files that were committed one after another on one date.

    A run never reaches over a large file, so that the files of a date keep following one another in the log.

    Args:
        files: in the order of ``data_files``.
        target_bytes: size that a compacted file should have.
    """
    return [tuple(run) for run in _runs(files, target_bytes) if len(run) > 1]


def _runs(files: Iterable[DataFile], target_bytes: int) -> Iterator[list[DataFile]]:
    run: list[DataFile] = []
    size = 0
    for file in files:
        alone = not small(file, target_bytes)
        if run and (alone or file.date != run[0].date or size + file.size > MOST_TARGETS * target_bytes):
            yield run
            run, size = [], 0
        if not alone:
            run.append(file)
            size += file.size
    yield run
