"""The increments of the instruments of Tardis files: as told, from a table, or from the files' own decimals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from features.errors import ConfigError
from pipeline.sources.base import UnusableError, ignore_reject
from pipeline.sources.decimals import Increment
from pipeline.sources.tardis_instruments import INCREMENTS, TardisInstrument
from pipeline.sources.tardis_layout import Layout
from pipeline.sources.tardis_rows import TardisFile

Pair = tuple[Increment, Increment]


class TardisIncrements:
    """Price and size increment of each instrument.

    Of an instrument that is neither given nor in the table, the increment is 10^-d, where d is the most decimals that
    one of its fields prints in any of the files (all options on an underlying together, at most nine). So counts are
    exact, though the increment may be finer than the venue's tick: a tick of 0.5 shows as 0.1. To know d, all files
    are read once before the first row of such an instrument comes out; given increments spare that.

    Args:
        files: what may be scanned.
        given: (price, size) increments as decimals by name; names may hold ``*``, as in ``deribit:BTC-*-C``.

    Raises:
        ConfigError: an increment is not a positive decimal.
    """

    def __init__(self, files: Sequence[tuple[Path, Layout]], given: Mapping[str, tuple[str, str]]) -> None:
        self._files = files
        self._given = [(pattern, _pair(pattern, texts)) for pattern, texts in given.items()]
        self._table = {name: _pair(name, texts) for name, texts in INCREMENTS.items()}
        self._scanned: dict[str, tuple[int, int]] | None = None
        self._known: dict[str, Pair] = {}

    def of(self, instrument: TardisInstrument) -> Pair:
        """Price and size increment."""
        pair = self._known.get(instrument.name)
        if pair is None:
            pair = self._known[instrument.name] = self._find(instrument)
        return pair

    def known(self, name: str) -> Pair | None:
        """As given or in the table; None: only the files can tell."""
        for pattern, pair in self._given:
            if name == pattern or fnmatchcase(name, pattern):
                return pair
        return self._table.get(name)

    def _find(self, instrument: TardisInstrument) -> Pair:
        known = self.known(instrument.name)
        if known is not None:
            return known
        if self._scanned is None:
            self._scanned = _scan(self._files)
        price, size = self._scanned.get(instrument.family, (0, 0))
        return Increment(price, 1), Increment(size, 1)


def _scan(files: Sequence[tuple[Path, Layout]]) -> dict[str, tuple[int, int]]:
    """The most decimals of prices and of sizes, by family of instruments."""
    found: dict[str, tuple[int, int]] = {}
    for path, layout in files:
        file = TardisFile(path, layout, ignore_reject)
        prices, sizes = layout.number_columns()
        for block in file.blocks():
            code = file.codes(block)
            known = code >= 0
            most = np.zeros((len(file.instruments), 2), dtype=np.int64)
            found_codes = np.unique(code[known]).tolist()
            for which, columns in enumerate((prices, sizes)):
                for column in columns:
                    decimals = block.decimals(column)
                    if len(found_codes) == 1:
                        most[found_codes[0], which] = max(most[found_codes[0], which], decimals[known].max())
                    else:
                        np.maximum.at(most[:, which], code[known], decimals[known])
            for at in found_codes:
                family = file.instruments[at].family
                price, size = found.get(family, (0, 0))
                found[family] = max(price, int(most[at, 0])), max(size, int(most[at, 1]))
    return found


def _pair(name: str, texts: tuple[str, str]) -> Pair:
    try:
        price, size = (Increment.from_e9(Increment(9, 1).count(text)) for text in texts)
    except (UnusableError, ValueError) as error:
        raise ConfigError(
            f"The increments {texts!r} of {name} are no pair of decimals.", 'Give ("0.5", "10"), price and size.'
        ) from error
    return price, size
