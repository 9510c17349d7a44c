"""Weights behind other positions compute what a model built with those positions computes."""

from typing import Any

import pytest
import torch

from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from congling.transform.repositioned import repositioned

TOKENS = torch.randint(0, 50, (2, 40), generator=torch.Generator().manual_seed(0))
POSITIONS: dict[str, dict[str, Any]] = {
    "plain": {"kind": "rope"},
    "ntk": {"kind": "rope", "rope_theta": 70_000.0},
    "yarn": {"rope_scaling": {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 16}},
    "dynamic": {
        "rope_scaling": {"rope_type": "dynamic", "factor": 4, "original_max_position_embeddings": 16}
    },
    "clex": {"rope_scaling": {"rope_type": "clex", "original_max_position_embeddings": 16}},
    "alibi": {"kind": "alibi"},
}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3": ("qwen3", {}),
    "biases, untied": ("qwen2", {"tie_word_embeddings": False}),
    "experts": ("qwen3-moe", {}),
    "window": ("mistral", {"attention": {"sliding_window": 8}}),
}


def model_of(positions: dict[str, Any], shape: str = "qwen3", context: int = 64) -> Transformer:
    family, changes = SHAPES[shape]
    small = {"vocab_size": 50, "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2}
    config = FAMILIES[family](max_position_embeddings=context, **small)  # type: ignore[arg-type]
    model = Transformer(config.replace(positions=positions, **changes))
    torch.manual_seed(1)
    for name, tensor in model.named_parameters():
        if not name.startswith("positions."):
            tensor.data.copy_(torch.randn_like(tensor) * 0.2 + ("norm.weight" in name))
    return model.eval()


def logits(model: Transformer) -> torch.Tensor:
    with torch.inference_mode():
        return model.logits(model(TOKENS))


@pytest.mark.parametrize(
    ("old", "new", "shape"),
    [
        *(("yarn", "plain", shape) for shape in SHAPES),
        ("dynamic", "plain", "qwen3"),
        ("clex", "ntk", "biases, untied"),
        ("plain", "dynamic", "experts"),
        ("plain", "alibi", "qwen3"),
    ],
)
def test_it_is_the_model_that_has_those_positions(old: str, new: str, shape: str):
    model, wanted = model_of(POSITIONS[old], shape), model_of(POSITIONS[new], shape, 50)
    before = logits(model)
    other = repositioned(model, wanted.config.positions, 50)
    assert other.config == wanted.config
    assert torch.equal(logits(other), logits(wanted))
    assert torch.equal(logits(model), before)  # and the first one stays as it was
    assert not torch.allclose(before, logits(other), atol=1e-3)


def test_weights_are_shared_and_not_copied():
    model = model_of(POSITIONS["yarn"])
    other = repositioned(model, model_of(POSITIONS["plain"]).config.positions, 64)
    mine = {name: tensor.data_ptr() for name, tensor in model.named_parameters()}
    assert {name: tensor.data_ptr() for name, tensor in other.named_parameters()} == mine
    assert not other.training and repositioned(model.train(), other.config.positions, 64).training


@pytest.mark.parametrize("positions", [{"kind": "learned"}, POSITIONS["clex"]])
def test_positions_with_weights_of_their_own_are_refused(positions: dict[str, Any]):
    with pytest.raises(ValueError, match="weights of their own"):
        repositioned(model_of(POSITIONS["plain"]), model_of(positions).config.positions, 64)
