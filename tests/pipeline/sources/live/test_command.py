"""``hedgeflow source run`` from the socket of a local venue to the log of a real broker, twice."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from itertools import groupby
from pathlib import Path

import pytest
import small_deribit
import venue_server
from confluent_kafka import TopicPartition
from small_deribit import trade
from venue_server import Abort, DeribitServer, Say, Send

from features.book import replay_l2
from features.events import SESSION_ROWS, EventBatch, Kind
from pipeline.broker import EmbeddedBroker
from pipeline.codec import KIND_HEADER, decode_event
from pipeline.kafka import end_offsets, header, make_reader, read_to_end
from pipeline.settings import Settings
from pipeline.sources.deribit_recording import DeribitRecording
from pipeline.topics import DEAD_LETTER, EVENTS

HEDGEFLOW = [sys.executable, "-m", "pipeline.cli"]
PERP = "BTC-PERPETUAL"


def log_of(settings: Settings) -> list[EventBatch]:
    reader = make_reader(settings)
    try:
        whole = [
            TopicPartition(topic, part, 0) for (topic, part), end in end_offsets(settings, [EVENTS]).items() if end
        ]
        return [decode_event(header(m, KIND_HEADER) or "", "BTC", m.value()) for m in read_to_end(reader, whole)]
    finally:
        reader.close()


async def session(server: DeribitServer, settings: Settings, capture: Path) -> tuple[int, str, str]:
    """Run the command until it has seen everything, then interrupt it."""
    async with server:
        process = await asyncio.create_subprocess_exec(
            *HEDGEFLOW, "source", "run", "deribit", "--symbols", PERP, "--url", f"ws://{server.address}",
            "--capture", str(capture), "--bootstrap", settings.bootstrap,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"NO_PROXY": "127.0.0.1"},
        )  # fmt: skip
        async with asyncio.timeout(20):
            await server.played.wait()
        await asyncio.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()


@pytest.mark.broker
def test_a_source_that_is_started_again_goes_on_and_its_capture_is_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ms = int(time.time() * 1_000)
    monkeypatch.setattr(small_deribit, "START_MS", now_ms)
    monkeypatch.setattr(venue_server, "START_MS", now_ms)
    server = DeribitServer([Send(10), Abort()], [Send(10), Say("{"), Say(trade(PERP, 0, 1, 1.0, 10.0, "buy").decode())])
    with EmbeddedBroker() as broker:
        settings = Settings(bootstrap=broker.bootstrap)
        for _ in range(2):
            code, out, err = asyncio.run(session(server, settings, tmp_path))
            assert code == 130, err
            assert "Traceback" not in err
            assert f"rows to md.events at {settings.bootstrap}" in out
            assert "rejected: broken_json 1" in out
            server.played = asyncio.Event()
        logged = log_of(settings)
        assert sum(end_offsets(settings, [DEAD_LETTER]).values()) == 2
    last = replay_l2(logged).tail(1)
    best = last.select("valid", "bid_price_0", "bid_size_0", "ask_price_0", "ask_size_0").row(0)
    assert best == (True, *server.book.best())
    seq = [row["seq"] for batch in logged if batch.kind is Kind.BOOK for row in batch.data.to_pylist()]
    assert seq == sorted(seq), "no row repeats the number of an earlier one"
    sessions = [list(numbers) for _, numbers in groupby(seq, key=lambda number: number // SESSION_ROWS)]
    assert len(sessions) == 2
    assert all(numbers == list(range(numbers[0], numbers[0] + len(numbers))) for numbers in sessions)
    assert all(numbers[0] % SESSION_ROWS == 0 for numbers in sessions)
    captured = list(DeribitRecording(sorted(tmp_path.iterdir()), only={PERP}).batches())
    for kind in (Kind.BOOK, Kind.TRADE):
        columns = [
            name
            for batch in logged
            if batch.kind is kind
            for name in batch.data.schema.names
            if name not in ("seq", "late_ns")
        ]
        ours, theirs = (
            [
                {name: row[name] for name in columns if name != "ref_version"}
                for batch in batches
                if batch.kind is kind
                for row in batch.data.to_pylist()
            ]
            for batches in (logged, captured)
        )
        assert ours == theirs
