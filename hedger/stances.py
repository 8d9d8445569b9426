"""Which rung each leg of a decision stands on: the ladder applied to a whole portfolio, the policy asked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from features.errors import HedgeflowError
from features.protocols import BandModel
from hedger.decision import Rung
from hedger.inputs import SignalInput
from hedger.ladder import (
    LadderConfig,
    Stance,
    deep_policy,
    market_problem,
    no_trade_band,
    policy_problem,
    policy_rows,
)
from hedger.portfolio import OptionPosition, Portfolio

Options = tuple[OptionPosition, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy that is in force at a bar.

    Args:
        version: by the log of inputs; ``None`` if there is no policy.
        model: with this version; ``None`` if it is not at hand.
    """

    version: str | None = None
    model: BandModel | None = None


def stances(
    portfolio: Portfolio,
    signals: Mapping[str, SignalInput],
    policy: Policy,
    config: LadderConfig,
    *,
    veto: str | None = None,
    flatten: str | None = None,
) -> dict[str, Stance]:
    """The stance of each underlying, in the order of the legs.

    Args:
        portfolio: to hedge.
        signals: of this bar, by underlying.
        policy: the first rung.
        config: of the ladder.
        veto: why all legs hold, whatever their market.
        flatten: why a person has all positions closed.
    """
    chosen: dict[str, Stance] = {}
    open_legs: dict[str, tuple[SignalInput, Options]] = {}
    for underlying in portfolio.underlyings:
        signal, options = signals.get(underlying), portfolio.options_on(underlying)
        problem = veto or ("there is no signal" if signal is None else market_problem(signal, options))
        if problem is not None or signal is None:
            chosen[underlying] = Stance(rung=Rung.HOLD, reasons=(problem or "",))
        elif flatten is not None:
            chosen[underlying] = Stance(rung=Rung.FLATTEN, reasons=(flatten,))
        else:
            open_legs[underlying] = (signal, options)
    first = _policy_stances(open_legs, policy, config)
    for underlying, (signal, options) in open_legs.items():
        chosen[underlying] = _stepped_down(first[underlying], signal, options, config)
    return {underlying: chosen[underlying] for underlying in portfolio.underlyings}


def _stepped_down(first: Stance | str, signal: SignalInput, options: Options, config: LadderConfig) -> Stance:
    """The first rung if it can be taken, else the second, else hold; each step with its reason."""
    if isinstance(first, Stance):
        return first
    reasons = (f"not {Rung.DEEP_POLICY}: {first}",)
    second = no_trade_band(signal, options, config)
    if isinstance(second, Stance):
        return replace(second, reasons=reasons)
    return Stance(rung=Rung.HOLD, reasons=(*reasons, f"not {Rung.NO_TRADE_BAND}: {second}"))


def _policy_stances(
    legs: Mapping[str, tuple[SignalInput, Options]], policy: Policy, config: LadderConfig
) -> dict[str, Stance | str]:
    """The first rung of each leg, or why it cannot be taken."""
    if policy.version is None:
        return dict.fromkeys(legs, "there is no policy")
    if policy.model is None:
        return dict.fromkeys(legs, f"policy {policy.version} is in force but not loaded")
    found: dict[str, Stance | str] = {}
    ready: dict[str, tuple[SignalInput, Options]] = {}
    for underlying, (signal, options) in legs.items():
        problem = policy_problem(signal, config)
        if problem is None:
            ready[underlying] = (signal, options)
        else:
            found[underlying] = problem
    if not ready:
        return found
    try:
        lower_N, upper_N = policy.model.band(np.concatenate([policy_rows(*leg) for leg in ready.values()]))
        lower, upper = lower_N.tolist(), upper_N.tolist()
    except (HedgeflowError, RuntimeError, ValueError) as error:
        # RuntimeError is what torch raises when the device is gone: a dead model must not stop the ladder below it.
        return {**found, **dict.fromkeys(ready, f"policy {policy.version} failed: {type(error).__name__}: {error}")}
    row = 0
    for underlying, (signal, options) in ready.items():
        end = row + len(options)
        found[underlying] = deep_policy(signal, options, lower[row:end], upper[row:end])
        row = end
    return found
