"""The lake's worker as a process, on a disk that fills up, on one that refuses, and on another log."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from lake_feed import assert_same, contents, fill
from small_market import small_market

from pipeline import topics
from pipeline.broker import EmbeddedBroker
from pipeline.edge import Edge
from pipeline.kafka import committed_offsets, create_topics, end_offsets
from pipeline.log import KafkaLog
from pipeline.processes import WorkerDiedError, WorkerProcess, Workers, environment_of
from pipeline.settings import Settings

pytestmark = pytest.mark.broker


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True, timeout=20)


def may_mount() -> bool:
    """Whether we are root and the kernel lets us mount: containers often do not."""
    try:
        mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", "/mnt")
        subprocess.run(["umount", "/mnt"], check=True, timeout=20)
    except (subprocess.SubprocessError, OSError):
        return False
    return True


needs_mount = pytest.mark.skipif(os.geteuid() != 0 or not may_mount(), reason="a small disk needs the right to mount")


@contextmanager
def mounted(*arguments: str) -> Iterator[None]:
    mount(*arguments)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", arguments[-1]], check=True, timeout=20)


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def settings(broker: EmbeddedBroker, tmp_path: Path) -> Settings:
    (tmp_path / "disk").mkdir()
    settings = Settings(
        bootstrap=broker.bootstrap,
        lake=tmp_path / "disk" / "lake",
        lake_commit_interval_ms=200,
        session_timeout_ms=3_000,
        monitor_port=-1,
    )
    create_topics(settings)
    return settings


def send_market(settings: Settings, seconds: int, seed: int) -> None:
    log = KafkaLog(settings)
    edge = Edge(log, "test")
    for event in small_market(seconds, seed=seed):
        edge.send(event)
    log.flush()


def wait_for(condition: Callable[[], bool], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.1)


def fill_up(file: Path) -> None:
    """Write until the disk is full."""
    with file.open("wb", buffering=0) as ballast, suppress(OSError):
        while True:
            ballast.write(b"x" * 4_096)


def undisturbed(settings: Settings, folder: Path) -> Settings:
    return settings.model_copy(update={"lake": folder / "undisturbed"})


def committed(settings: Settings) -> int:
    return sum(committed_offsets(settings, "lake", [topics.EVENTS]).values())


def sent(settings: Settings) -> int:
    return sum(end_offsets(settings, [topics.EVENTS]).values())


@needs_mount
def test_a_disk_that_fills_up_and_is_emptied_leaves_every_row_once(settings: Settings, tmp_path: Path) -> None:
    """With kill -9 while it is full: whatever was half written, nobody ever sees."""
    disk, log = tmp_path / "disk", tmp_path / "lake.log"
    with mounted("-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)):
        worker = WorkerProcess("lake", environment_of(settings), log).start()
        try:
            send_market(settings, seconds=2, seed=1)
            wait_for(lambda: committed(settings) == sent(settings))
            fill_up(disk / "ballast")
            before, held = contents(settings), committed(settings)
            send_market(settings, seconds=2, seed=2)
            wait_for(lambda: log.read_text().count("commit failed") >= 2)
            # A little room: Parquet files fit, one after the other, and then a log entry does not.
            os.truncate(disk / "ballast", os.path.getsize(disk / "ballast") - 24_000)
            seen = log.read_text().count("commit failed")
            wait_for(lambda: log.read_text().count("commit failed") >= seen + 1)
            assert sum(frame.height for frame in contents(settings).values()) >= sum(
                frame.height for frame in before.values()
            )
            worker.check()
            worker.kill()
            worker.start()
            wait_for(lambda: log.read_text().count("commit failed") >= seen + 2)
            assert committed(settings) == held
            os.unlink(disk / "ballast")
            wait_for(lambda: committed(settings) == sent(settings))
        finally:
            status = worker.stop()
        assert status == 0
        assert_same(contents(settings), fill(undisturbed(settings, tmp_path)))


@needs_mount
def test_a_log_that_refuses_its_entry_hides_the_files_that_were_written(settings: Settings, tmp_path: Path) -> None:
    """Parquet files are there, their entry is not: readers see the rows before, and afterwards each once."""
    log, entries = tmp_path / "lake.log", tmp_path / "disk/lake/book/_delta_log"
    with Workers(settings, environment_of(settings), tmp_path) as workers:
        workers.start("lake")
        send_market(settings, seconds=2, seed=1)
        wait_for(lambda: committed(settings) == sent(settings))
        before, held = contents(settings)["book"], committed(settings)
        files = len(list(entries.parent.rglob("*.parquet")))
        with mounted("--bind", str(entries), str(entries)):
            mount("-o", "remount,ro,bind", str(entries))
            send_market(settings, seconds=2, seed=2)
            wait_for(lambda: log.read_text().count("commit failed") >= 2)
            assert len(list(entries.parent.rglob("*.parquet"))) > files
            assert contents(settings)["book"].equals(before)
            workers["lake"].kill()
            workers["lake"].start()
            wait_for(lambda: log.read_text().count("commit failed") >= 4)
            # Of the messages since, at most those before the first one of a book.
            assert held <= committed(settings) < sent(settings)
        workers.drain(120)
    assert_same(contents(settings), fill(undisturbed(settings, tmp_path)))


def test_a_broker_that_came_back_empty_and_was_filled_again_is_refused(
    settings: Settings, broker: EmbeddedBroker, tmp_path: Path
) -> None:
    send_market(settings, seconds=2, seed=1)
    before = fill(settings)
    broker.stop()
    broker.start()
    create_topics(settings)
    send_market(settings, seconds=4, seed=2)
    log = tmp_path / "lake.log"
    worker = WorkerProcess("lake", environment_of(settings), log).start()
    with pytest.raises(WorkerDiedError, match="ended with status 7"):
        wait_for(lambda: worker.check() is not None)
    assert "use another --lake for a new log" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert_same(contents(settings), before)
    other = settings.model_copy(update={"lake": tmp_path / "another"})
    assert sum(frame.height for frame in fill(other).values()) > sum(frame.height for frame in before.values())
