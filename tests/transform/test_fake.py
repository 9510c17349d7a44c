"""Training in few bits: what is multiplied with is what is stored, and gradients reach what is behind it."""

from pathlib import Path

import pytest
import torch

from congling.core.errors import UserError
from congling.quant.coded import CodedLinear
from congling.quant.config import GptqConfig, OneBitConfig, RtnConfig, TrainedConfig
from congling.quant.onebit import LatentOneBitLinear, OneBitLinear
from congling.quant.stored import load_quantised
from congling.transform.fake import FakeQuantisedLinear, as_stored, in_training, saving, train_in_few_bits
from support.training_doubles import CONTEXT, VOCABULARY, small_model

W2 = RtnConfig(bits=2, group_size=8)
CONFIGS = [
    W2,
    RtnConfig(bits=4, group_size=-1, sym=True),
    GptqConfig(bits=2, group_size=8),
    OneBitConfig(),
    OneBitConfig(layer_norm=True),
]


def model_of(config: TrainedConfig):
    torch.manual_seed(0)
    model = small_model("llama")
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    tokens = torch.randint(0, VOCABULARY, (8, CONTEXT))
    train_in_few_bits(model, config, [(tokens, None, None)])
    return model, tokens


def test_the_gradient_passes_straight_through_rounding():
    linear = torch.nn.Linear(16, 5)
    layer, x = FakeQuantisedLinear(linear, W2), torch.randn(3, 16, requires_grad=True)
    stored = layer.packed()
    assert torch.equal(layer(x), stored(x))
    seen = torch.randn(3, 5)
    (layer(x) * seen).sum().backward()
    assert layer.weight.grad is not None and x.grad is not None
    torch.testing.assert_close(layer.weight.grad, seen.T @ x.detach())
    torch.testing.assert_close(x.grad, seen @ stored.dense())


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.method)
def test_what_is_stored_is_what_was_trained_to_the_bit(config: TrainedConfig, tmp_path: Path):
    model, tokens = model_of(config)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    names = [name for name, _ in model.named_parameters()]
    for _ in range(2):
        model.logits(model(tokens)).square().mean().backward()
        assert all(one.grad is not None for one in model.parameters())
        optimizer.step()
        optimizer.zero_grad()
    trained = model(tokens)
    kind = OneBitLinear if config.method == "onebit" else CodedLinear
    with as_stored(model):
        assert not in_training(model) and sum(isinstance(one, kind) for one in model.modules()) == 14
        assert torch.equal(model(tokens), trained)
    assert in_training(model) and [name for name, _ in model.named_parameters()] == names
    saving(config)(model, tmp_path)
    assert torch.equal(load_quantised(tmp_path)(tokens), trained)


def test_only_linear_layers_of_blocks_are_put_in_few_bits():
    model, _ = model_of(OneBitConfig())
    places = {place for place, one in model.named_modules() if isinstance(one, LatentOneBitLinear)}
    assert len(places) == 14 and all(place.startswith("blocks.") for place in places)
    assert all(one.requires_grad for one in model.parameters()) and model.training


def test_what_cannot_be_trained_in_few_bits_says_so():
    with pytest.raises(UserError, match="a mixture of experts cannot be trained"):
        train_in_few_bits(small_model("qwen3-moe"), W2)
    model = small_model("llama")
    with pytest.raises(UserError, match="does not divide"):
        train_in_few_bits(model, RtnConfig(bits=2, group_size=48))
    assert not in_training(model)
