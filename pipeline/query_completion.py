"""What the Tab key offers: tables, their columns, macros, functions and keywords of a connection."""

from __future__ import annotations

from functools import cached_property

import duckdb

_WORDS = """
SELECT view_name FROM duckdb_views() WHERE NOT internal AND schema_name = 'main'
UNION SELECT table_name FROM duckdb_tables()
UNION SELECT column_name FROM duckdb_columns() WHERE NOT internal AND schema_name = 'main'
UNION SELECT function_name || '(' FROM duckdb_functions() WHERE NOT internal
UNION SELECT keyword_name FROM duckdb_keywords()
"""


class Completion:
    """Completes the word before the cursor, as ``readline`` asks for it.

    Args:
        connection: whose names are offered.
        commands: of the shell, such as ``.tables``.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, commands: tuple[str, ...]) -> None:
        self._connection = connection
        self._commands = commands
        self._offers: list[str] = []

    @cached_property
    def _words(self) -> list[str]:
        # Asked for at the first Tab, and of another cursor: a pending answer of the shell's own stays whole.
        return sorted(row[0] for row in self._connection.cursor().execute(_WORDS).fetchall())

    def offers(self, word: str) -> list[str]:
        """All that ``word`` may become; of ``f.mi`` what follows the dot."""
        if word.startswith("."):
            return [each for each in self._commands if each.startswith(word)]
        before, dot, last = word.rpartition(".")
        return [f"{before}{dot}{each}" for each in self._words if each.startswith(last.lower())]

    def __call__(self, word: str, state: int) -> str | None:
        """The offer number ``state``; ``None`` after the last one."""
        if state == 0:
            self._offers = self.offers(word)
        return self._offers[state] if state < len(self._offers) else None
