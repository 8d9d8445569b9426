"""Which of Deribit's instruments are meant: by name, or a whole chain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from features.errors import ConfigError

_GROUPS: Final = ("options", "futures")


class DeribitSelection:
    """A container of symbols.

    ``BTC-PERPETUAL`` is one instrument; ``BTC-options`` and ``BTC-futures`` (with the perpetual) are all that there
    are, new ones too; ``SOL_USDC-options`` those settled in USDC.

    Args:
        symbols: of these forms.

    Raises:
        ConfigError: there is none, or one has another form.

    >>> selection = DeribitSelection(["ETH-PERPETUAL", "BTC-options"])
    >>> "BTC-29DEC23-40000-C" in selection, "BTC-PERPETUAL" in selection
    (True, False)
    """

    def __init__(self, symbols: Sequence[str]) -> None:
        self.names: list[str] = []
        """The instruments that were named one by one."""
        self.groups: list[tuple[str, str]] = []
        for symbol in dict.fromkeys(symbols):
            head, dash, tail = symbol.partition("-")
            if not head or (dash and not tail) or not symbol.isascii():
                raise ConfigError(
                    f"{symbol!r} is no symbol of Deribit.", "Name BTC-PERPETUAL, BTC-options or BTC-futures, say."
                )
            if tail.lower() in _GROUPS:
                self.groups.append((f"{head.upper()}-", tail.lower()))
            else:
                self.names.append(symbol)
        if not self.names and not self.groups:
            raise ConfigError("No symbol was named.", "Name at least one, such as BTC-PERPETUAL or BTC-options.")

    def __contains__(self, symbol: object) -> bool:
        if not isinstance(symbol, str):
            return False
        if symbol in self.names:
            return True
        group = "options" if symbol.endswith(("-C", "-P")) else "futures"
        return any(symbol.startswith(head) and wanted == group for head, wanted in self.groups)

    @property
    def currencies(self) -> list[str]:
        """Whose lists of instruments hold them: the currency of settlement, ``any`` for spot pairs."""
        heads = [name.partition("-")[0] if "-" in name else "any" for name in self.names]
        heads += [head.removesuffix("-") for head, _group in self.groups]
        return list(dict.fromkeys(head.rpartition("_")[2] for head in heads))
