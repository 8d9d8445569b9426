"""Features of your own, in one file. Name it in the configuration, and they flow to the lake and to the models:

    features = ["examples/my_features.py"]
    forecast_inputs = ["pressure"]          # the forecast's trees read it, too

An installed package does the same with an entry point of the group ``hedgeflow.features`` that names this module.
"""

import math

from features.declared.alternative import zscore
from features.declared.windowed import windowed
from features.feature import MINUTE, Feature
from features.kernel import kernel
from features.user_feature import UserFeature

DECAY = math.exp(-1.0 / 20.0)  # a bar


@kernel  # optional: plain Python gives the same numbers, slower
def pressure(inputs, state):
    """Order flow and trading, each a share of what rests near the mid, smoothed over twenty bars."""
    flow, signed_volume, bid_depth, ask_depth = inputs
    depth = bid_depth + ask_depth
    if math.isnan(flow) or math.isnan(signed_volume) or not depth > 0.0:
        return math.nan  # unknown: the state waits for the next known bar
    now = (flow + signed_volume) / depth
    state[0] = now if math.isnan(state[0]) else DECAY * state[0] + (1.0 - DECAY) * now
    return state[0]


FEATURES = [
    UserFeature(
        Feature(
            name="pressure",
            unit="1",
            formula="x + exp(-1/20) (x' - x), x = (order_flow_imbalance + signed_volume) / depth within 10 bps",
            null_when="order flow, trades or depth of the bar are unknown",
            inputs=("order_flow_imbalance", "signed_volume", "bid_depth_10bps", "ask_depth_10bps"),
            implementation="examples.my_features.pressure",
        ),
        pressure,
        state_size=1,
    ),
    # A feature of the house with a window of your own: half an hour of realized variance.
    windowed("realized_variance", 30 * MINUTE),
    # Any number of an alternative feed, against its last thirty values.
    zscore("social_volume", observations=30),
]
