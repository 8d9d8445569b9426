"""Where each model lies below the setting `models`."""

from __future__ import annotations

from typing import Final

REGIMES_FOLDER: Final = "regimes"
FORECAST_FOLDER: Final = "forecast"
POLICY_FOLDER: Final = "policy"
TEXT_FOLDER: Final = "text"
