"""The deep policy: a no-trade band around the Black delta, as wide as a network says.

Tensors carry their shape: N rows, D inputs.

References:
    Imaki, Imajo, Ito, Minami and Nakagawa 2021, "No-transaction band network": the band as a network's output.
    Whalley and Wilmott 1997, "An asymptotic analysis of an optimal hedging model for option pricing with transaction
    costs": half-width ``(3 c S Gamma^2 / 2 a)^(1/3)``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import linear, silu, softplus

from features.artifact import load_artifact, save_artifact
from features.errors import ArtifactError, BadInputError
from hedger.policy_inputs import BASIS_POINT, POLICY_INPUTS

Float = NDArray[np.float64]

KIND: Final = "policy"

PADDED_ROWS: Final = 64
"""Rows of every evaluation, live or not: a matrix product of another shape gives other bits (DESIGN 3)."""

INPUT_LIMIT: Final = 5.0
"""Standardised inputs are clipped here: beyond what it was trained on, the band stays as it is at the border."""

_GAMMA: Final = POLICY_INPUTS.index("scaled_gamma")
_LOG_HALF_SPREAD: Final = POLICY_INPUTS.index("log_half_spread")
_SOFTPLUS_OF_ONE: Final = math.log(math.e - 1.0)


class BandNetwork(torch.nn.Module):
    """``offset = width_scale w(x) softplus(f(z))``, z the standardised inputs, f a network with two hidden layers.

    ``w = (3/2 c (S Gamma)^2)^(1/3)``, c half spread and fee as a fraction, is the Whalley-Wilmott half-width at risk
    aversion 1. The network starts at softplus(f) = 1: as the Whalley-Wilmott band that ``width_scale`` makes of it.

    Args:
        input_mean_D, input_scale_D: standardisation of the inputs, in the order of ``POLICY_INPUTS``.
        width_scale: dimensionless, > 0.
        fee_bps: of a trade's notional, beside half the spread.
        hidden: units in each of the two hidden layers.
        generator: of the initial weights; without it they are left for ``load_state_dict``.
    """

    input_mean: Tensor
    input_scale: Tensor
    width_scale: Tensor
    fee_bps: Tensor

    def __init__(
        self,
        input_mean_D: Tensor,
        input_scale_D: Tensor,
        width_scale: float,
        fee_bps: float,
        hidden: int,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("input_mean", input_mean_D.to(torch.float32))
        self.register_buffer("input_scale", input_scale_D.to(torch.float32))
        self.register_buffer("width_scale", torch.tensor(width_scale, dtype=torch.float32))
        self.register_buffer("fee_bps", torch.tensor(fee_bps, dtype=torch.float32))
        # Not torch.nn.Linear: it would draw its weights from torch's global generator.
        sizes = ((hidden, len(input_mean_D)), (hidden, hidden), (2, hidden))
        self.weights = torch.nn.ParameterList(torch.zeros(size) for size in sizes)
        self.biases = torch.nn.ParameterList(torch.zeros(size[0]) for size in sizes)
        if generator is not None:
            self._start(generator)

    @torch.no_grad()
    def _start(self, generator: torch.Generator) -> None:
        for weight in list(self.weights)[:-1]:
            bound = math.sqrt(6.0 / weight.shape[1])  # He et al. 2015, eq. 10, as a uniform law
            weight.uniform_(-bound, bound, generator=generator)
        self.biases[-1].fill_(_SOFTPLUS_OF_ONE)

    def forward(self, inputs_ND: Tensor) -> tuple[Tensor, Tensor]:
        """``lower_N, upper_N``: offsets >= 0 around the delta, in units of the underlying for one option."""
        z_ND = ((inputs_ND - self.input_mean) / self.input_scale).clamp(-INPUT_LIMIT, INPUT_LIMIT)
        *inner, (weight, bias) = zip(self.weights, self.biases, strict=True)
        for inner_weight, inner_bias in inner:
            z_ND = silu(linear(z_ND, inner_weight, inner_bias))
        width_N = self.width_scale * reference_width(inputs_ND, self.fee_bps)
        offset_N2 = softplus(linear(z_ND, weight, bias)) * width_N[:, None]
        return offset_N2[:, 0], offset_N2[:, 1]


def reference_width(inputs_ND: Tensor, fee_bps: Tensor | float) -> Tensor:
    """``(3/2 c (S Gamma)^2)^(1/3)``: the Whalley-Wilmott half-width at risk aversion 1 and price 1."""
    cost_N = BASIS_POINT * (inputs_ND[:, _LOG_HALF_SPREAD].exp() + fee_bps)
    return (1.5 * cost_N * inputs_ND[:, _GAMMA] ** 2) ** (1.0 / 3.0)


@contextmanager
def torch_threads(n_threads: int) -> Iterator[None]:
    """Run torch on so many threads and restore their number: sums are split by it, and the bits follow."""
    before = torch.get_num_threads()
    if before == n_threads:
        yield
        return
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True, slots=True)
class BandPolicy:
    """A trained band; implements :class:`features.protocols.BandModel`.

    Attributes:
        network: on the CPU, float32, in evaluation mode.
        settings: how it was trained, JSON values.
        version: names the saved model; empty before it is saved.
    """

    network: BandNetwork
    settings: Mapping[str, Any]
    version: str = ""

    def band(self, inputs_ND: Float) -> tuple[Float, Float]:
        """``lower_N, upper_N``: hold any position in [delta - lower, delta + upper] for one short option.

        Args:
            inputs_ND: rows of :func:`hedger.policy_inputs.policy_inputs`, float64.

        Returns:
            Offsets >= 0 in units of the underlying for one option, float64; NaN where an input is NaN. The bits of a
            row depend neither on the other rows nor on their number.

        Raises:
            BadInputError: the rows do not have D columns.
        """
        if inputs_ND.ndim != 2 or inputs_ND.shape[1] != len(POLICY_INPUTS):
            raise BadInputError(f"Policy inputs have shape {inputs_ND.shape}.", f"Columns are {POLICY_INPUTS}.")
        n_rows = len(inputs_ND)
        offset_N2 = np.empty((n_rows, 2))
        with torch_threads(1), torch.inference_mode():
            for first in range(0, n_rows, PADDED_ROWS):
                rows = min(PADDED_ROWS, n_rows - first)
                padded = torch.zeros((PADDED_ROWS, len(POLICY_INPUTS)), dtype=torch.float32)
                padded[:rows] = torch.from_numpy(inputs_ND[first : first + rows].astype(np.float32))
                lower, upper = self.network(padded)
                offset_N2[first : first + rows, 0] = lower[:rows].numpy()
                offset_N2[first : first + rows, 1] = upper[:rows].numpy()
        return offset_N2[:, 0].copy(), offset_N2[:, 1].copy()


def save_policy(
    folder: Path,
    policy: BandPolicy,
    *,
    name: str,
    catalogue: str,
    seed: int,
    metrics: Mapping[str, float],
    data: Mapping[str, Any],
) -> BandPolicy:
    """Write the policy as an artifact (see :func:`features.artifact.save_artifact`); returns it with its version."""
    manifest = save_artifact(
        folder,
        kind=KIND,
        name=name,
        catalogue=catalogue,
        seed=seed,
        settings={"inputs": POLICY_INPUTS, "trained": policy.settings},
        metrics=metrics,
        data=data,
        tensors={key: value.numpy() for key, value in policy.network.state_dict().items()},
    )
    return replace(policy, version=manifest.version)


def load_policy(folder: Path, catalogue: str | None) -> BandPolicy:
    """Read what :func:`save_policy` wrote.

    Raises:
        ArtifactError: the folder is no policy, damaged, or made for other features or other inputs.
    """
    artifact = load_artifact(folder, kind=KIND, catalogue=catalogue)
    settings = artifact.manifest.settings
    if tuple(settings["inputs"]) != POLICY_INPUTS:
        raise ArtifactError(
            f"The policy in {folder} reads {settings['inputs']}, this code gives {list(POLICY_INPUTS)}.",
            f"Train it again, or run the code version that made it: {artifact.manifest.code_version}.",
        )
    state = {key: torch.from_numpy(value) for key, value in artifact.tensors.items()}
    hidden = len(state["biases.0"])
    network = BandNetwork(state["input_mean"], state["input_scale"], width_scale=1.0, fee_bps=0.0, hidden=hidden)
    network.load_state_dict(state)
    return BandPolicy(network.eval(), settings["trained"], artifact.manifest.version)
