"""The shell of ``hedgeflow sql``: statements over several lines, dot commands, history, completion."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import duckdb
import typer

from pipeline.query_cancel import cancellable
from pipeline.query_completion import Completion
from pipeline.query_output import Format, write_answer
from pipeline.query_views import literal

VIEWS: Final = (
    'SELECT view_name AS "table", column_count AS columns, comment FROM duckdb_views() '
    "WHERE NOT internal AND schema_name = 'main' ORDER BY 1"
)
MACROS: Final = (
    "SELECT function_name || '(' || array_to_string(parameters, ', ') || ')' AS macro, comment FROM duckdb_functions() "
    "WHERE NOT internal ORDER BY 1"
)
COMMANDS: Final = {
    ".tables": "the tables and what they hold",
    ".schema [TABLE]": "columns with type, unit and meaning; without a table, of all",
    ".macros": "the recipes: as-of joins, bars, markouts ...",
    ".format [NAME]": f"how answers are shown: {', '.join(each for each in Format if each is not Format.PARQUET)}",
    ".rows [COUNT]": "rows of a table that are shown",
    ".timing [on|off]": "whether the time of each statement is shown",
    ".help": "this",
    ".quit": "leave, as Ctrl-D does",
}
_PROMPT: Final = "lake> "
_MORE: Final = "  ... "
_HISTORY_LINES: Final = 2_000
_DELIMITERS: Final = " \t\n()[]{},;:=<>+-*/%|'\""
_ALL_ROWS: Final = 10_000


def history_file() -> Path:
    """Where statements are remembered: in the user's state folder."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "hedgeflow" / "sql_history"


def problem(error: Exception) -> str:
    """What DuckDB says, in one line: the first, and what it thinks was meant."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    hints = [line for line in lines[1:] if line.startswith(("Did you mean", "Candidate bindings"))]
    return " ".join([*lines[:1], *hints[:1]]) or type(error).__name__


def is_complete(text: str) -> bool:
    """Whether the text ends with a ``;`` that is no part of a string or comment."""
    tokens = [(at, kind) for at, kind in duckdb.tokenize(text) if kind != duckdb.token_type.comment]
    return bool(tokens) and tokens[-1][1] == duckdb.token_type.operator and text[tokens[-1][0]] == ";"


class Shell:
    """Reads statements and shows answers until ``.quit`` or the end of the input.

    Args:
        connection: of an open lake.
        form: how answers are shown at first; a terminal gets no Parquet.
        rows: of a table that are shown.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, form: Format, rows: int) -> None:
        self._connection = connection
        self._form = form
        self._rows = rows
        self._timing = False
        self._pending: list[str] = []

    def run(self, where: str) -> None:
        """Greet and read until the end."""
        typer.echo(f"Lake {where}. Statements end with ; and .help lists what else there is.")
        with _line_editing(Completion(self._connection, tuple(word.split()[0] for word in COMMANDS))):
            while True:
                try:
                    if not self.take(input(_MORE if self._pending else _PROMPT)):
                        return
                except EOFError:
                    typer.echo()
                    return
                except KeyboardInterrupt:
                    self._pending.clear()
                    typer.echo()

    def take(self, line: str) -> bool:
        """Take the next line; whether to go on."""
        if not self._pending and line.strip().startswith("."):
            _remember(line.strip())
            return self._command(line.strip().rstrip(";"))
        if self._pending or line.strip():
            self._pending.append(line)
        text = "\n".join(self._pending)
        if is_complete(text):
            self._pending.clear()
            _remember(text)
            self._execute(text)
        return True

    def _execute(self, text: str) -> None:
        try:
            for statement in self._connection.extract_statements(text):
                begin = time.perf_counter()
                cancellable(self._connection, partial(self._answer, statement))
                if self._timing:
                    typer.echo(f"{time.perf_counter() - begin:.3f} s")
        except KeyboardInterrupt:
            # The statement ends; the shell and the lake's snapshot stay.
            self._connection.abort()
            typer.echo("cancelled", err=True)
        except duckdb.Error as error:
            typer.echo(
                f"DuckDB says: {problem(error)} (.tables, .schema TABLE and .macros show what there is)", err=True
            )

    def _answer(self, statement: object) -> None:
        self._connection.execute(statement)
        if self._connection.description:
            self._show(self._form, self._rows)

    def _show(self, form: Format, rows: int) -> None:
        sys.stdout.flush()
        write_answer(self._connection, form, sys.stdout.buffer, rows)
        sys.stdout.buffer.flush()

    def _ask(self, query: str) -> None:
        self._connection.execute(query)
        self._show(Format.TABLE, _ALL_ROWS)

    def _command(self, line: str) -> bool:
        try:
            name, *words = shlex.split(line)
        except ValueError as error:
            name, words = line.split()[0], [f"? {error}"]
        known = {command.split()[0]: command for command in COMMANDS}
        if name in (".quit", ".exit"):
            return False
        if name not in known or len(words) > 1 or (words and "[" not in known[name]):
            typer.echo(f"There is no {line}; .help lists what there is.", err=True)
        else:
            self._known[name](*words)
        return True

    @property
    def _known(self) -> dict[str, Callable[..., None]]:
        return {
            ".tables": self._tables,
            ".schema": self._schema,
            ".macros": self._macros,
            ".format": self._format,
            ".rows": self._most,
            ".timing": self._timed,
            ".help": self._help,
        }

    def _tables(self) -> None:
        self._ask(VIEWS)

    def _macros(self) -> None:
        self._ask(MACROS)

    def _schema(self, table: str = "") -> None:
        one = f"table_name = {literal(table)}" if table else "true"
        name = "" if table else 'table_name AS "table", '
        query = (
            f"SELECT {name}column_name AS column, data_type AS type, comment FROM duckdb_columns() "
            f"WHERE NOT internal AND schema_name = 'main' AND {one} ORDER BY table_name, column_index"
        )
        if table and not self._connection.execute(f"SELECT 1 FROM ({query}) LIMIT 1").fetchall():
            typer.echo(f"There is no table {table}; .tables lists what there is.", err=True)
            return
        self._ask(query)

    def _format(self, name: str = "") -> None:
        if name and name not in set(Format) - {Format.PARQUET}:
            typer.echo(f"There is no format {name} here: {COMMANDS['.format [NAME]']}.", err=True)
            return
        self._form = Format(name) if name else self._form
        typer.echo(f"format {self._form}")

    def _most(self, count: str = "") -> None:
        if count and not count.isdecimal():
            typer.echo(f"{count} is no number of rows.", err=True)
            return
        self._rows = int(count) if count else self._rows
        typer.echo(f"rows {self._rows}")

    def _timed(self, switch: str = "") -> None:
        self._timing = switch == "on" if switch in ("on", "off") else not self._timing
        typer.echo(f"timing {'on' if self._timing else 'off'}")

    def _help(self) -> None:
        for command, doc in COMMANDS.items():
            typer.echo(f"{command:18}{doc}")
        typer.echo("Statements end with ; and Ctrl-C cancels one that runs. Recipes: docs/queries.md")


@contextmanager
def _line_editing(completion: Completion) -> Iterator[None]:
    """History and completion, where Python has ``readline``."""
    try:
        import readline
    except ImportError:
        yield
        return
    path = history_file()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        readline.read_history_file(path)
    readline.set_auto_history(False)
    readline.set_history_length(_HISTORY_LINES)
    readline.set_completer(completion)
    readline.set_completer_delims(_DELIMITERS)
    libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
    try:
        yield
    finally:
        readline.set_completer(None)
        # A home that cannot be written costs the history, not the session.
        with suppress(OSError):
            readline.write_history_file(path)


def _remember(text: str) -> None:
    """A statement as one line of the history; with a comment in it, which would swallow the rest, line by line."""
    with suppress(ImportError):
        import readline

        for line in text.splitlines() if "--" in text else [" ".join(text.split())]:
            readline.add_history(line)
