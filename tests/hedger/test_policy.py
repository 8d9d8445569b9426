from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from features.errors import ArtifactError, BadInputError
from hedger.policy import PADDED_ROWS, BandNetwork, BandPolicy, load_policy, reference_width, save_policy, torch_threads
from hedger.policy_inputs import POLICY_INPUTS, policy_inputs


def policy(seed: int = 0) -> BandPolicy:
    """Random weights in every layer."""
    d = len(POLICY_INPUTS)
    network = BandNetwork(torch.zeros(d), torch.ones(d), 0.03, 5.0, 32, torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return BandPolicy(network.eval(), {"config": {"n_steps": 60}})


def inputs(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return policy_inputs(
        100.0,
        100.0 * np.exp(rng.normal(0.0, 0.1, n)),
        rng.uniform(0.01, 0.2, n),
        rng.uniform(0.2, 1.0, n),
        True,
        rng.dirichlet(np.ones(3), n),
        rng.uniform(0.05, 5.0, n),
    )


def test_live_backfill_and_replay_give_the_same_bits() -> None:
    model, x = policy(), inputs(1_000)
    whole = np.column_stack(model.band(x))
    for size in (1, 3, 64, 100):
        parts = [np.column_stack(model.band(x[first : first + size])) for first in range(0, 1_000, size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_the_bits_of_a_row_depend_neither_on_its_place_nor_on_its_neighbours() -> None:
    model, row = policy(), inputs(1)
    alone = np.column_stack(model.band(row))[0]
    for place in range(PADDED_ROWS):
        among = inputs(PADDED_ROWS, seed=place)
        among[place] = row
        np.testing.assert_array_equal(np.column_stack(model.band(among))[place], alone)


def test_the_bits_do_not_depend_on_torchs_threads_which_are_left_as_they_were() -> None:
    model, x = policy(), inputs(200)
    one = model.band(x)
    before = torch.get_num_threads()
    with torch_threads(2):
        two = model.band(x)
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == before
    np.testing.assert_array_equal(one, two)


def test_a_band_is_positive_and_unknown_where_an_input_is() -> None:
    x = inputs(10)
    x[3] = np.nan
    x[5, 0] = np.nan
    lower, upper = policy().band(x)
    unknown = np.isin(np.arange(10), [3, 5])
    np.testing.assert_array_equal(np.isnan(lower), unknown)
    np.testing.assert_array_equal(np.isnan(upper), unknown)
    assert (lower[~unknown] >= 0.0).all()
    assert (upper[~unknown] >= 0.0).all()
    assert lower.dtype == upper.dtype == np.float64


def test_beyond_what_it_was_trained_on_only_the_reference_width_moves() -> None:
    x = np.repeat(inputs(1), 2, axis=0)
    x[:, POLICY_INPUTS.index("volatility")] = [1e3, 1e6]
    (a, b), _ = policy().band(x)
    assert a == b


def test_an_untrained_network_is_the_whalley_wilmott_band() -> None:
    d = len(POLICY_INPUTS)
    network = BandNetwork(torch.zeros(d), torch.ones(d), 0.03, 5.0, 32, torch.Generator().manual_seed(0)).eval()
    x = inputs(100)
    lower, upper = BandPolicy(network, {}).band(x)
    gamma, log_half_spread = x[:, 4], x[:, 5]
    expected = 0.03 * np.cbrt(1.5 * 1e-4 * (np.exp(log_half_spread) + 5.0) * gamma**2)
    np.testing.assert_allclose(lower, expected, rtol=1e-5)
    np.testing.assert_allclose(upper, expected, rtol=1e-5)
    np.testing.assert_allclose(reference_width(torch.from_numpy(x), 5.0), expected / 0.03, rtol=1e-12)


def saved(folder: Path, model: BandPolicy, catalogue: str = "abc") -> BandPolicy:
    return save_policy(folder, model, name="band", catalogue=catalogue, seed=3, metrics={"objective": 1.0}, data={})


def test_a_saved_policy_is_the_same_to_the_bit(tmp_path: Path) -> None:
    model, x = policy(), inputs(300)
    kept = saved(tmp_path / "policy", model)
    loaded = load_policy(tmp_path / "policy", "abc")
    np.testing.assert_array_equal(model.band(x), loaded.band(x))
    assert loaded.settings == model.settings
    assert loaded.version == kept.version != ""
    assert saved(tmp_path / "again", model).version == kept.version
    assert saved(tmp_path / "other", policy(7)).version != kept.version
    assert saved(tmp_path / "settings", replace(model, settings={"config": {}})).version != kept.version


def test_a_policy_for_other_features_or_inputs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "policy", policy())
    with pytest.raises(ArtifactError, match="fitted on features abc"):
        load_policy(tmp_path / "policy", "def")
    monkeypatch.setattr("hedger.policy.POLICY_INPUTS", (*POLICY_INPUTS[:-1], "something_else"))
    with pytest.raises(ArtifactError, match="something_else"):
        load_policy(tmp_path / "policy", "abc")


def test_a_damaged_policy_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "policy", policy())
    manifest = tmp_path / "policy" / "manifest.json"
    content = msgspec.json.decode(manifest.read_bytes())
    content["settings"]["trained"] = {}
    manifest.write_bytes(msgspec.json.encode(content))
    with pytest.raises(ArtifactError, match="damaged"):
        load_policy(tmp_path / "policy", "abc")


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(BadInputError, match="shape"):
        policy().band(np.zeros((3, len(POLICY_INPUTS) - 1)))
