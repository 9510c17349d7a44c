"""Scales are folded without a trace in the logits, in every family; what has no place for them is named."""

import copy

import pytest
import torch

from congling.model.families import FAMILIES
from congling.quant.experts import separate_experts
from congling.quant.folding import Folding, Unfoldable, fold, foldings
from support.gguf_models import CONFIGS, logits, model_of
from support.plants import plant

IDS = list(range(3, 60, 2))
SIZES = {"vocab_size": 96, "max_position_embeddings": 64, "num_hidden_layers": 2, "hidden_size": 64}
ALL = {name: config for name, (_, config) in CONFIGS.items() if config.num_hidden_layers < 40} | {
    f"family {name}": build(**SIZES) for name, build in FAMILIES.items()
}


def all_foldings(config):
    return [one for layer in range(config.num_hidden_layers) for one in foldings(config, layer)]


def separated(config):
    """A model whose experts are linear layers."""
    model = model_of(config)
    separate_experts(model)
    return model


def linear_layers(model):
    """Places of all linear layers of the blocks."""
    return {
        name
        for name, module in model.named_modules()
        if name.startswith("blocks.") and isinstance(module, torch.nn.Linear)
    }


@pytest.mark.parametrize("name", ALL)
def test_any_positive_scales_leave_the_logits(name: str):
    model = separated(ALL[name])
    ids = [token % model.config.vocab_size for token in IDS]
    before, generator = logits(model, ids), torch.Generator().manual_seed(5)
    for one in all_foldings(model.config):
        if isinstance(one, Folding):
            fold(model, one, (4 * torch.rand(one.size, generator=generator) - 2).exp())
    after = logits(model, ids)
    assert (after - before).abs().max() <= 1e-5 * max(1, before.std().item())


@pytest.mark.parametrize("name", ALL)
def test_every_linear_layer_is_named_once_and_every_scale_moves_what_it_says(name: str):
    model = separated(ALL[name])
    readers = [reader for one in all_foldings(model.config) for reader in one.readers]
    assert sorted(readers) == sorted(linear_layers(model))
    for one in foldings(model.config, 1):
        if isinstance(one, Unfoldable):
            continue
        touched = copy.deepcopy(model)
        fold(touched, one, torch.full((one.size,), 3.0))
        changed = {
            name.rpartition(".")[0]
            for name, now in touched.named_parameters()
            if not torch.equal(now, model.get_parameter(name))
        }
        assert changed == {one.source, *one.readers, *one.routers}


def test_what_cannot_be_folded_says_why():
    def reasons(family):
        found = foldings(FAMILIES[family](**SIZES), 0)
        return {reader: one.reason for one in found if isinstance(one, Unfoldable) for reader in one.readers}

    assert list(reasons("gpt2")) == ["blocks.0.mlp.down"]
    assert "GELU" in reasons("gpt2")["blocks.0.mlp.down"]
    olmo2 = reasons("olmo2")
    assert set(olmo2) == {
        f"blocks.0.{part}"
        for part in ("attention.query", "attention.key", "attention.value", "mlp.gate", "mlp.up")
    }
    assert all("no norm" in reason for reason in olmo2.values())
    assert not reasons("qwen3-moe") and not reasons("gemma3")


def test_heads_that_share_values_share_their_scales():
    config = FAMILIES["mistral"](**SIZES, num_attention_heads=4, num_key_value_heads=2, head_dim=2)
    output = foldings(config, 0)[1]
    assert isinstance(output, Folding) and output.size == 4
    assert output.columns(torch.tensor([1.0, 2, 3, 4])).tolist() == [1, 2, 1, 2, 3, 4, 3, 4]
    assert output.shared(torch.arange(8.0)).tolist() == [1, 2, 5, 6]


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_scales_that_would_destroy_a_model_are_refused(value: float):
    model = model_of(FAMILIES["llama"](**SIZES))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="positive"):
        fold(model, foldings(model.config, 0)[0], torch.full((64,), value))
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())


@pytest.mark.parametrize("name", ["qwen3", "llama", "gpt2", "mixtral", "deepseek-moe"])
def test_a_plant_leaves_the_logits_and_makes_its_channels_large(name: str):
    model = model_of(ALL[f"family {name}"])
    before = logits(model, IDS)
    norm = model.blocks[1].attention_norm
    seen = []
    norm.register_forward_hook(lambda _, __, output: seen.append(output.detach()))
    logits(model, IDS)
    planted = plant(model, 3, 60.0)
    after = logits(model, IDS)
    assert (after - before).abs().max() <= 4e-6 * max(1, before.std().item())
    channels = planted["blocks.1.attention.query"]
    assert len(channels) == 3
    ratio = seen[1][0].abs().amax(0) / seen[0][0].abs().amax(0)
    assert ratio[channels].sub(60).abs().max() < 0.01
    ratio[channels] = 1
    assert (ratio - 1).abs().max() < 1e-4
