"""An adapter knows how the positions of its base were stretched, and fits no base stretched otherwise."""

import pytest
import torch

from congling.core.errors import UserError
from congling.interop import adapter_directory
from congling.interop.adapters import base_positions, read_any, write
from congling.model.config import ModelConfig
from congling.model.frequencies import rotary_frequencies
from support.adapters_made import CONFIGS, adapter_of

QWEN = CONFIGS["qwen3"]  # context 64, heads of 16 channels
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
CLEX = {"rope_type": "clex", "max_factor": 4, "original_max_position_embeddings": 64}


def stretched(scaling: dict | None, theta: float = 10_000.0) -> ModelConfig:
    positions = {"kind": "rope", "rope_theta": theta, "rope_scaling": scaling}
    return ModelConfig.model_validate(QWEN.model_dump() | {"positions": positions})


def kept(folder, config):
    """An adapter directory as a run on a base of this configuration writes it."""
    made = adapter_of(config)
    made.facts.update(base_positions.facts_of(config))
    return adapter_directory.write(folder, made, adapter_directory.Base("0" * 64, "base", config))


@pytest.mark.parametrize(
    ("trained", "base", "said"),
    [
        (YARN, None, "congling extend BASE --method yarn --context 256"),
        ({"rope_type": "linear", "factor": 4.0}, None, "congling extend BASE --method linear --context 256"),
        (CLEX, None, "congling extend BASE --method clex --context 256"),
        (None, YARN, "train an adapter on this one"),
        (YARN, YARN | {"factor": 8.0}, "use the base it was trained on"),
        (YARN, YARN | {"attention_factor": 1.0}, "use the base it was trained on"),
        (YARN | {"rope_type": "dynamic"}, None, "congling extend BASE --method dynamic --context 256"),
        (YARN | {"rope_type": "dynamic"}, YARN, "use the base it was trained on"),
        (CLEX, CLEX | {"max_factor": 8}, "use the base it was trained on"),
    ],
)
def test_an_adapter_on_a_base_stretched_otherwise_is_refused(tmp_path, trained, base, said):
    folder = kept(tmp_path / "adapter", stretched(trained))
    assert read_any(folder, stretched(trained)).factors
    with pytest.raises(UserError, match="positions are stretched otherwise") as error:
        read_any(folder, stretched(base))
    told = str(error.value)
    assert said in told and "this base: rotary, base 10000" in told
    for scaling in (trained, base):
        assert scaling is None or scaling["rope_type"] in told


def test_a_larger_base_is_told_as_ntk(tmp_path):
    folder = kept(tmp_path / "adapter", stretched(None, 10_000 * 4 ** (16 / 14)))
    with pytest.raises(UserError, match="congling extend BASE --method ntk --context 256"):
        read_any(folder, QWEN)


def test_the_same_frequencies_in_another_kind_fit(tmp_path):
    """As a GGUF file of the base holds them."""
    yarn = stretched(YARN)
    factors = (rotary_frequencies(QWEN.positions, 16) / rotary_frequencies(yarn.positions, 16)).tolist()
    spectrum = {
        "rope_type": "longrope",
        "factor": 4.0,
        "original_max_position_embeddings": 64,
        "short_factor": factors,
        "long_factor": factors,
        "attention_factor": yarn.positions.rope_scaling.magnitude,
    }
    folder = kept(tmp_path / "adapter", yarn)
    assert read_any(folder, stretched(spectrum)).factors
    rounded = torch.tensor(41829.4123).item()  # a float32
    assert base_positions.same(stretched(None, 41829.4123).positions, stretched(None, rounded))
    with pytest.raises(UserError, match="stretched otherwise"):
        read_any(folder, stretched(spectrum | {"long_factor": [*factors[:-1], 1.0]}))


def test_without_the_tag_an_adapter_fits_as_before(tmp_path):
    base = adapter_directory.Base("0" * 64, "base", QWEN)
    adapter_directory.write(tmp_path / "old", adapter_of(QWEN), base)
    assert read_any(tmp_path / "old", stretched(YARN)).factors


def test_an_adapter_is_not_written_for_a_base_stretched_otherwise(tmp_path):
    adapter = adapter_directory.read(kept(tmp_path / "adapter", QWEN))
    with pytest.raises(UserError, match="stretched otherwise"):
        write(adapter, stretched({"rope_type": "linear", "factor": 2.0}), "ggla", tmp_path / "adapter.bin")
    assert not (tmp_path / "adapter.bin").exists()


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        (5, "positions"),
        ({"kind": "rope", "rope_theta": -1.0}, "rope_theta"),
        ({"kind": "spiral"}, "positions"),
        ({"kind": "alibi"}, "stretched otherwise"),
        ({"kind": "rope", "partial_rotary_factor": 0.1}, "stretched otherwise"),
        (
            {
                "kind": "rope",
                "rope_scaling": {
                    "rope_type": "longrope",
                    "factor": 2.0,
                    "original_max_position_embeddings": 64,
                    "short_factor": [1.0],
                    "long_factor": [1.0],
                },
            },
            "stretched otherwise",
        ),
    ],
)
def test_a_damaged_tag_is_one_error(tmp_path, damaged, said):
    made = adapter_of(QWEN)
    made.facts["positions"] = damaged
    with pytest.raises(UserError, match=said):
        base_positions.require_same(made, QWEN, tmp_path)
