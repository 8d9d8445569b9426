"""The recorded data of ../shared/data, where it is."""

from __future__ import annotations

from pathlib import Path

import pytest

DATA = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture(scope="session")
def recorded_data() -> Path:
    if not (DATA / "binance").is_dir():
        pytest.skip(f"recorded data is not at {DATA}")
    return DATA
