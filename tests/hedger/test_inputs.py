"""Inputs of the decision log: what a signals row becomes, and the way through JSON."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest
from hedge_market import T0, portfolio, row, signal
from hypothesis import given
from hypothesis import strategies as st

from features.errors import BadInputError
from features.signals import SCHEMA
from hedger.inputs import (
    ActivateInput,
    CancelInput,
    FillInput,
    FlattenInput,
    Input,
    KillInput,
    ModelInput,
    PortfolioInput,
    ReleaseInput,
    SignalInput,
    TimerInput,
    decode_input,
    encode_input,
    signal_input,
)

FILL = FillInput(
    input_id="fill:1", order_id="1", decision_id="d", underlying="BTC", instrument="i", quantity=-0.1, price=0.3,
    fee_usd=1e-9, bar_ts=T0,
)  # fmt: skip
ALL: list[Input] = [
    signal(),
    FILL,
    CancelInput(input_id="c", order_id="1", bar_ts=T0, reason="r"),
    KillInput(input_id="k", reason="r", by="b"),
    FlattenInput(input_id="f", reason="r", by="b"),
    ReleaseInput(input_id="r", reason="r", by="b", releases="flatten"),
    PortfolioInput(input_id="p", portfolio=portfolio()),
    ModelInput(input_id="m", version=None, active_from_bar_ts=T0),
    TimerInput(input_id="t", ts=T0),
    ActivateInput(input_id="a", active_from_bar_ts=T0),
]


def test_a_signal_has_the_columns_of_the_signals_table() -> None:
    assert list(SignalInput.__struct_fields__) == ["input_id", *SCHEMA.names]
    # The table's own rows fit, types and all.
    table = pa.Table.from_pylist([row()], schema=SCHEMA)
    assert signal_input(table.to_pylist()[0]) == signal()


def test_unknown_is_none_however_it_came() -> None:
    known = signal(atm_iv_30d=math.nan, mid=None, extra_column=1)
    assert known.atm_iv_30d is None
    assert known.mid is None
    assert known.input_id == f"signal:BTC:{T0 + 10**9}"


@pytest.mark.parametrize("changes", [{"bar_ts": None}, {"mid": "x"}, {"underlying": math.nan}, {"bar_ts": 1.5}])
def test_a_row_of_another_schema_is_no_signal(changes: dict[str, object]) -> None:
    with pytest.raises(BadInputError, match="does not fit its schema"):
        signal_input({**row(), **changes})


@pytest.mark.parametrize("item", ALL, ids=lambda item: type(item).__name__)
def test_every_input_comes_back_from_the_log(item: Input) -> None:
    again = decode_input(encode_input(item))
    assert again == item
    assert type(again) is type(item)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_keep_their_bits(value: float) -> None:
    again = decode_input(encode_input(signal(forecast_variance=value)))
    assert isinstance(again, SignalInput)
    assert again.forecast_variance is not None
    assert again.forecast_variance.hex() == value.hex()


@pytest.mark.parametrize(
    "document", [b"", b"{}", b'{"type": "wish"}', b'{"type": "kill"}', b"\xff", b'{"type":"timer"']
)
def test_what_is_no_input_says_so(document: bytes) -> None:
    with pytest.raises(BadInputError, match="input cannot be read"):
        decode_input(document)
