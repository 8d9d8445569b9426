"""The state of a decider: a replay from any snapshot makes the same decisions, byte for byte."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import pairwise

import msgspec
import pytest
from hedge_market import SECOND, T0, FixedBand, feed, limits, portfolio, random_walk, signal, timer
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import BadInputError
from hedger.decide import Decider
from hedger.decision import Rung, encode_decision
from hedger.inputs import FlattenInput, Input, KillInput, ModelInput, ReleaseInput
from hedger.limits import Limits
from hedger.paper import PaperGateway
from hedger.profit import signal_inputs

KILL = KillInput(input_id="k1", reason="test", by="ann")
FLATTEN = FlattenInput(input_id="f1", reason="test", by="ann")


def test_a_snapshot_is_of_one_portfolio() -> None:
    stranger = Decider(msgspec.structs.replace(portfolio(), name="another"), limits(), None)
    with pytest.raises(BadInputError, match="another"):
        fresh().restore(stranger.snapshot())
    with pytest.raises(BadInputError, match="snapshot"):
        fresh().restore(b"?")


def eventful_log(seed: int) -> list[Input]:
    """Bars with holes, real fills, repeats, a kill, a flatten, an edit, a model, ticks: in one shuffled-in order."""
    rng = random.Random(seed)
    subject, gateway = Decider(portfolio(), Limits(), FixedBand(0.01, 0.02)), PaperGateway()
    log: list[Input] = []
    events: dict[int, Input] = {
        2: KILL,
        5: ReleaseInput(input_id="r1", reason="", by="ann"),
        12: FLATTEN,
        15: ReleaseInput(input_id="r2", reason="", by="ann", releases="flatten"),
        18: ModelInput(input_id="m", version=None, active_from_bar_ts=T0 + 20 * SECOND),
        22: timer(40.0),
    }
    for item in signal_inputs(random_walk(30, seed=seed, sd=1e-3)):
        bar = (item.bar_ts - T0) // SECOND
        if rng.random() < 0.1:
            row = {"book_valid": False, "mid": None, "best_bid": None, "best_ask": None}
            item = signal(item.underlying, bar, **row)
        batch: list[Input] = [*gateway.on_market(item), item]
        if bar in events:
            batch.append(events.pop(bar))
        for each in batch:
            for _ in range(1 + (rng.random() < 0.2)):
                log.append(each)
                decision = subject.apply(each)
                if decision is not None:
                    gateway.submit(decision.orders)
                    log += gateway.cancel(decision.cancels, decision.bar_ts, "kill")
                    feed(subject, log[-len(decision.cancels) :] if decision.cancels else [])
    return log


LOGS = [eventful_log(seed) for seed in range(3)]


def fresh() -> Decider:
    return Decider(portfolio(), Limits(), FixedBand(0.01, 0.02))


@settings(deadline=None, max_examples=40)
@given(log=st.sampled_from(LOGS), cuts=st.lists(st.floats(0.0, 1.0), max_size=6))
def test_a_replay_from_any_snapshot_has_the_same_bytes(log: Sequence[Input], cuts: list[float]) -> None:
    straight = fresh()
    expected = [encode_decision(decision) for decision in feed(straight, log)]
    places = sorted({math.floor(cut * len(log)) for cut in cuts} | {0, len(log)})
    subject, found = fresh(), []
    for start, end in pairwise(places):
        found += [encode_decision(decision) for decision in feed(subject, log[start:end])]
        data = subject.snapshot()
        subject = fresh()
        subject.restore(data)
        assert subject.snapshot() == data
    assert found == expected
    assert subject.snapshot() == straight.snapshot()


def test_the_eventful_log_is_eventful() -> None:
    decisions = [decision for log in LOGS for decision in feed(fresh(), log)]
    rungs = {leg.rung for decision in decisions for leg in decision.legs}
    assert rungs == set(Rung)
    assert any(decision.cancels for decision in decisions)
    assert any(decision.orders for decision in decisions)
