"""Local servers are reached directly, whatever proxy the environment names."""

from __future__ import annotations

import pytest
from small_market import edged, small_market


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(autouse=True, scope="session")
def compiled() -> None:
    """The edge's kernels: compiling them in the middle of a session would look like a stall."""
    edged(small_market(1))
