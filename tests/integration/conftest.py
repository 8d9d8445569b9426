"""Brokers for the integration tests; and ``benchmarks``, which is not installed with the packages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from broker_under_test import Broker, broker_under_test, require_ours

from pipeline.broker import EmbeddedBroker

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from benchmarks.soak_market import Prepared, market, prepare


@pytest.fixture
def broker() -> Iterator[Broker]:
    """An empty broker, of the kind that the environment names."""
    with broker_under_test() as running:
        yield running


@pytest.fixture(scope="module")
def shared_broker() -> Iterator[Broker]:
    """The same, for all tests of a module."""
    with broker_under_test() as running:
        yield running


@pytest.fixture
def own_broker() -> Iterator[EmbeddedBroker]:
    """An empty broker that may be killed and paused."""
    require_ours()
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A market of four and a half minutes, with models and a portfolio for the last two."""
    return prepare(tmp_path_factory.mktemp("prepared"), market(4.5, seed=3))
