"""The fuzzer in its shortest form, and the readers with whatever hypothesis thinks of."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fuzz_messages import Message, Mutator, good_events
from benchmarks.fuzz_readers import Readers
from features.events import Kind
from pipeline.codec import ROW_SCHEMAS

pytestmark = pytest.mark.xdist_group("benchmarks")


@pytest.fixture(scope="module")
def readers() -> Readers:
    return Readers(good_events())


def test_a_thousand_damaged_messages_are_counted() -> None:
    command = [sys.executable, "-m", "benchmarks.fuzz", "--messages", "1000", "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-1_000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["accepted"] > 30
    assert found["rejected"] > 300
    assert found["accepted"] + found["rejected"] == 1_000


def test_a_message_depends_on_seed_and_number_alone() -> None:
    events = good_events()
    one, other = Mutator(5, events), Mutator(5, events)
    assert [one.message(n) for n in range(40)] == [other.message(n) for n in reversed(range(40))][::-1]


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.tuples(st.just("event"), st.sampled_from(sorted(Kind))),
        st.tuples(st.just("row"), st.sampled_from(sorted(ROW_SCHEMAS))),
        st.tuples(st.just("record"), st.sampled_from(["decisions", "decisions.inputs", "oms.fills", "dead-letter"])),
        st.tuples(st.just("json"), st.just("")),
    ),
    st.binary(max_size=400),
)
def test_any_bytes_are_read_or_refused(readers: Readers, reader: tuple[str, str], payload: bytes) -> None:
    readers.read(Message(reader[0], reader[1], "BTC", payload))


_FIELDS = ["kind", "underlying", "instrument", "ts_event", "bar_ts", "legs", "price", "size", "side", "ts", "input_id"]
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_FIELDS), inner, max_size=6),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["decisions", "decisions.inputs", "oms.fills", "json"]), _JSON)
def test_any_json_is_read_or_refused(readers: Readers, topic: str, value: object) -> None:
    payload = json.dumps(value).encode()
    readers.read(Message("json", "", "", payload) if topic == "json" else Message("record", topic, "desk", payload))
