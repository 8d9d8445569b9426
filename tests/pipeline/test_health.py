"""Whether a worker lives: by the turns of its loop, and by the long steps that it declares."""

from __future__ import annotations

from pipeline.health import BEAT_S, BUSY_S, Health


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_loop_that_stops_turning_is_not_alive() -> None:
    clock = Clock()
    health = Health(clock)
    assert health.alive().good
    clock.now += BEAT_S - 1
    assert health.alive().good
    clock.now += 2
    assert not health.alive().good
    assert health.alive().why == "the loop has not turned for 31 s"
    health.beat()
    assert health.alive().good


def test_a_declared_step_may_take_long_but_not_forever() -> None:
    clock = Clock()
    health = Health(clock)
    health.busy("restoring features/0")
    clock.now += BUSY_S - 1
    assert health.alive().good
    assert health.alive().why == "restoring features/0, for 599 s"
    clock.now += 2
    assert not health.alive().good
    health.beat()
    clock.now += BEAT_S + 1  # the step is over: the short patience holds again
    assert not health.alive().good


def test_work_is_taken_when_the_worker_says_so_and_turns() -> None:
    clock = Clock()
    health = Health(clock)
    assert (health.takes_work().good, health.takes_work().why) == (False, "starting")
    health.ready(True, "2 partitions")
    assert (health.takes_work().good, health.takes_work().why) == (True, "2 partitions")
    health.ready(False, "no partitions")
    assert health.takes_work().why == "no partitions"
    health.ready(True, "2 partitions")
    clock.now += BEAT_S + 1
    assert health.takes_work().why == "the loop has not turned for 31 s"
