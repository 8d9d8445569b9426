"""The shell of ``hedgeflow sql`` at a real terminal: a pseudo-terminal and the command as a user types it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from tiny_lake import append_rows, bar

from pipeline.sql_shell import history_file, is_complete, problem

PROMPT = "lake> "
PATIENCE_S = 120.0


def at_a_terminal() -> None:
    """In the new process, before the command."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminal:
    """A command at a terminal of 200 columns, and what it has shown."""

    def __init__(self, words: list[str], environment: dict[str, str]) -> None:
        self._side, theirs = pty.openpty()
        # Else a Ctrl-C that is typed throws away what the shell has written and nobody has read.
        attributes = termios.tcgetattr(theirs)
        attributes[3] |= termios.NOFLSH
        termios.tcsetattr(theirs, termios.TCSANOW, attributes)
        # Its controlling terminal, so that Ctrl-C is a signal to it, also where whoever started the tests ignores it.
        self.process = subprocess.Popen(
            words,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            start_new_session=True,
            preexec_fn=at_a_terminal,
        )
        os.close(theirs)
        self._raw = b""
        self._read = 0
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._side, text.encode())

    def wait_for(self, text: str) -> str:
        """Until it shows ``text``, beyond what was waited for before; returns what came up to it."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.shown[self._read :]:
            assert time.monotonic() < deadline, self.shown[self._read :]
            if select.select([self._side], [], [], 0.2)[0]:
                self._take()
        end = self.shown.index(text, self._read) + len(text)
        came, self._read = self.shown[self._read : end], end
        return came

    def interrupt(self, told: str) -> None:
        """Ctrl-C until it says so: on a busy machine the first may come before the statement has begun."""
        deadline = time.monotonic() + PATIENCE_S
        while told not in self.shown[self._read :]:
            assert time.monotonic() < deadline, self.shown[self._read :]
            self.type("\x03")
            until = time.monotonic() + 30
            while told not in self.shown[self._read :] and time.monotonic() < until:
                if select.select([self._side], [], [], 0.2)[0]:
                    self._take()
        self.wait_for(told)

    def _take(self) -> None:
        # From the whole each time: a read may end inside a character or an escape sequence.
        self._raw += os.read(self._side, 65_536)
        self.shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self._raw.decode(errors="ignore"))

    def ask(self, line: str) -> str:
        """Type a line and wait for the next prompt."""
        self.type(line + "\n")
        return self.wait_for(PROMPT)

    def close(self) -> int:
        try:
            return self.process.wait(timeout=PATIENCE_S)
        finally:
            self.process.kill()
            os.close(self._side)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    append_rows(tmp_path / "lake", "features", [bar(0, 100.0), bar(1, 101.0)])
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path / "state"), "COLUMNS": "200", "TERM": "xterm"}
    words = [sys.executable, "-m", "pipeline.cli", "sql", "--lake", str(tmp_path / "lake")]
    terminal = Terminal(words, environment)
    try:
        yield terminal
    finally:
        if terminal.process.poll() is None:
            terminal.process.kill()
            terminal.process.wait()


def test_a_session(terminal: Terminal, tmp_path: Path) -> None:
    terminal.wait_for(PROMPT)
    assert "one row an instrument and bar" in terminal.ask(".tables")
    schema = terminal.ask(".schema features")
    assert "[basis points of mid] 1e4 (a_1 - b_1) / m" in schema
    assert "features_at(known_at)" in terminal.ask(".macros")
    terminal.type("select sum(mid) as total -- over all;\n")
    assert "total" not in terminal.wait_for("  ... ").split("\n")[-1]
    assert "201" in terminal.ask("from features;")
    assert "There is no .tabels; .help lists" in terminal.ask(".tabels")
    assert "There is no table feature;" in terminal.ask(".schema feature")
    assert "format csv" in terminal.ask(".format csv")
    assert "timing on" in terminal.ask(".timing on")
    timed = terminal.ask("select bar_ts, mid from features order by 1;")
    assert "bar_ts,mid\r\n1767571200000000000,100.0\r\n1767571201000000000,101.0\r\n" in timed
    assert re.search(r"\d\.\d{3} s", timed)
    mistake = terminal.ask("select midd from features;")
    assert mistake.count("DuckDB says:") == 1
    assert 'Candidate bindings: "mid"' in mistake
    assert "Traceback" not in mistake
    assert "41\r\n" in terminal.ask("select 40 + 1 as n;")
    check_cancel(terminal)
    check_completion(terminal)
    terminal.type(".quit\n")
    assert terminal.close() == 0
    history = (tmp_path / "state" / "hedgeflow" / "sql_history").read_text()
    assert "select 40 + 1 as n;\n" in history
    assert history_mode(tmp_path) == 0o600


def check_cancel(terminal: Terminal) -> None:
    """Ctrl-C ends a statement that runs, a statement that is being typed, and not the shell."""
    terminal.type("select sum(a.range * b.range) from range(10000000) a, range(10000000) b;\n")
    time.sleep(1.0)
    terminal.interrupt("cancelled")
    terminal.wait_for(PROMPT)
    terminal.type("select nonsense,\n")
    terminal.wait_for("  ... ")
    terminal.type("\x03")
    terminal.wait_for(PROMPT)
    assert "42\r\n" in terminal.ask("select 40 + 2 as n;")


def check_completion(terminal: Terminal) -> None:
    terminal.type("select microp\t")
    terminal.wait_for("microprice")
    assert "None" not in terminal.ask(" from feat\t limit 0;")
    assert "microprice from features" in terminal.shown.replace("\x07", "").replace("  ", " ")


def history_mode(folder: Path) -> int:
    return (folder / "state" / "hedgeflow" / "sql_history").stat().st_mode & 0o777


def test_ctrl_d_leaves(terminal: Terminal) -> None:
    terminal.wait_for(PROMPT)
    terminal.type("\x04")
    assert terminal.close() == 0


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("select 1;", True),
        ("select 1; -- done", True),
        ("select ';", False),
        ("select 1 -- ;", False),
        ("select 1\n;", True),
        ("/* ;", False),
        ("select $$;$$", False),
        ("", False),
    ],
)
def test_a_statement_ends_with_a_semicolon_of_its_own(text: str, complete: bool) -> None:
    assert is_complete(text) is complete


def test_problems_are_one_line() -> None:
    with duckdb.connect() as connection, pytest.raises(duckdb.Error) as error:
        connection.execute("select * from nowhere")
    assert problem(error.value).startswith("Catalog Error: Table with name nowhere does not exist!")
    assert "\n" not in problem(error.value)


def test_history_is_in_the_state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert history_file() == tmp_path / "hedgeflow" / "sql_history"
    monkeypatch.delenv("XDG_STATE_HOME")
    assert history_file() == Path.home() / ".local" / "state" / "hedgeflow" / "sql_history"


def test_ctrl_c_twice_cancels_no_less(terminal: Terminal) -> None:
    terminal.wait_for(PROMPT)
    terminal.type("select sum(a.range * b.range) from range(10000000) a, range(10000000) b;\n")
    time.sleep(1.0)
    for _ in range(5):
        terminal.type("\x03")
    terminal.wait_for("cancelled")
    terminal.wait_for(PROMPT)
    terminal.type("select 40 + 1 as n;\n")
    terminal.wait_for("41")
