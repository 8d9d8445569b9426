"""Ctrl-C is seen between steps; pressed twice, at once; and afterwards it is as it was."""

from __future__ import annotations

import os
import signal

import pytest

from pipeline.interrupts import interrupted_between_steps


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def look_twice(done: list[str]) -> None:
    with interrupted_between_steps() as look:
        look()
        press()
        done.append("the step is finished")
        look()
        done.append("never")


def press_twice(done: list[str]) -> None:
    with interrupted_between_steps():
        press()
        done.append("first")
        press()
        done.append("never")


def test_it_is_seen_where_one_looks() -> None:
    before = signal.getsignal(signal.SIGINT)
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        look_twice(done)
    assert done == ["the step is finished"]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_one_does_not_wait() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        press_twice(done)
    assert done == ["first"]
