"""What a user's features remember of every instrument, and their turn when bars close."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from features.errors import ConfigError
from features.user_feature import UserFeature

Array = np.ndarray[Any, Any]


class UserStates:
    """State arrays by feature and instrument."""

    def __init__(self, features: Sequence[UserFeature]) -> None:
        self._features = features
        self._states: dict[str, dict[str, Array]] = {each.feature.name: {} for each in features}

    def extend(
        self, instruments: Sequence[str], names: tuple[str, ...], floats: Array, trade_count: Array
    ) -> tuple[tuple[str, ...], Array]:
        """Names and floats with a column for each feature, computed row by row in order.

        Args:
            instruments: of the rows.
            names: of the columns of ``floats``.
            floats: (rows, columns).
            trade_count: of the rows, -1 for unknown: the one column of the catalogue that is no float.
        """
        counts = np.where(trade_count < 0, np.nan, trade_count.astype(np.float64))
        columns = [*(floats[:, i] for i in range(floats.shape[1])), counts]
        known = [*names, "trade_count"]
        for each in self._features:
            inputs = np.column_stack([columns[known.index(name)] for name in each.feature.inputs])
            columns.append(self._values(each, instruments, inputs))
            known.append(each.feature.name)
        added = columns[len(names) + 1 :]
        return (*names, *known[len(names) + 1 :]), np.column_stack([floats, *added])

    def _values(self, each: UserFeature, instruments: Sequence[str], inputs: Array) -> Array:
        states = self._states[each.feature.name]
        out = np.empty(len(inputs))
        for i, instrument in enumerate(instruments):
            state = states.get(instrument)
            if state is None:
                state = states[instrument] = np.full(each.state_size, np.nan)
            try:
                value = each.update(inputs[i], state)
            except Exception as error:
                raise ConfigError(
                    f"Feature {each.feature.name!r} of {instrument} failed on {inputs[i].tolist()}: "
                    f"{type(error).__name__}: {error}.",
                    "Return NaN where the value is unknown.",
                ) from error
            out[i] = value if math.isfinite(value) else math.nan
        return out

    def keep(self, before: Sequence[str], instruments: Sequence[str]) -> None:
        """Forget the instruments that are no longer there."""
        gone = set(before) - set(instruments)
        for states in self._states.values():
            for instrument in gone:
                states.pop(instrument, None)

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""
        saved: dict[str, Any] = {}
        for each in self._features:
            states = self._states[each.feature.name]
            saved[f"{each.feature.name}.instruments"] = list(states)
            saved[f"{each.feature.name}.values"] = np.array(list(states.values())).reshape(len(states), each.state_size)
        return saved

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state`."""
        for each in self._features:
            name = each.feature.name
            instruments, values = state[f"{name}.instruments"], state[f"{name}.values"]
            self._states[name] = {instrument: values[i] for i, instrument in enumerate(instruments)}
