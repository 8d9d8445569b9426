"""What is captured can be read again, whatever happened to the process that wrote it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from small_deribit import START_MS

from features.events import NANO
from pipeline.sources.live.capture import Capture, CaptureError
from pipeline.sources.recording_lines import read_lines

START = START_MS * 1_000_000


def lines(*paths: Path) -> list[bytes]:
    return [line for path in paths for line in read_lines(path, lambda *_damage: None)]


def test_files_rotate_at_full_hours_and_their_names_sort_by_time(tmp_path: Path) -> None:
    capture = Capture(tmp_path / "raw", "usdm_btcusdt", rotate_s=3_600)
    for minute in range(0, 150, 10):
        capture.write(START + minute * 60 * NANO, b'{"minute":%d}' % minute)
    capture.close()
    capture.close()
    assert capture.paths == sorted((tmp_path / "raw").iterdir())
    assert [path.name for path in capture.paths] == [
        "usdm_btcusdt_20231114_221320.gz", "usdm_btcusdt_20231114_230320.gz", "usdm_btcusdt_20231115_000320.gz",
    ]  # fmt: skip
    expected = [b'%d {"minute":%d}' % (START + m * 60 * NANO, m) for m in range(0, 150, 10)]
    assert lines(*capture.paths) == expected


def test_a_file_that_is_there_is_never_written_to_again(tmp_path: Path) -> None:
    for word in (b"first", b"second", b"third"):
        capture = Capture(tmp_path, "deribit")
        capture.write(START, word)
        capture.close()
    paths = sorted(tmp_path.iterdir())
    assert lines(*paths) == [b"%d %s" % (START, word) for word in (b"first", b"second", b"third")]


def test_line_ends_inside_a_message_do_not_break_the_line(tmp_path: Path) -> None:
    capture = Capture(tmp_path, "deribit")
    capture.write(START, b'{"a":\r\n1}\n')
    capture.close()
    assert lines(*capture.paths) == [b'%d {"a":  1} ' % START]


def test_what_was_flushed_survives_kill_9(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from pipeline.sources.live.capture import Capture\n"
        f"capture = Capture(pathlib.Path({str(tmp_path)!r}), 'deribit')\n"
        f"[capture.write({START} + i, b'kept %d' % i) for i in range(1000)]\n"
        "capture.flush()\n"
        f"[capture.write({START} + i, b'lost %d' % i) for i in range(1000)]\n"
        "print('written', flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"written\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)
    damage: list[str] = []
    (path,) = tmp_path.iterdir()
    read = list(read_lines(path, lambda reason, *_rest: damage.append(reason)))
    assert read[:1_000] == [b"%d kept %d" % (START + i, i) for i in range(1_000)]
    assert damage == ["truncated_gzip"]


def test_a_folder_that_cannot_be_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CaptureError, match="cannot take the capture"):
        Capture(tmp_path / "file" / "raw", "deribit")
