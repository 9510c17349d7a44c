"""DoRA: what a magnitude does to a layer, learns, adds up to, and which bases it works on."""

import numpy as np
import pytest
import torch
from torch import nn

from congling.core.errors import UserError
from congling.model.transformer import Transformer
from congling.quant import ggml
from congling.quant.packed import PackedLinear
from congling.transform import lora
from congling.transform.adapted import AdaptedLinear
from congling.transform.adapter import Adapter, Factors
from congling.transform.config import AdapterConfig
from congling.transform.merge import merged

from .test_lora import logits, model, random_adapter

NAMES = ("blocks.0.attention.query.weight", "blocks.1.mlp.down.weight", "head.weight")


def factors(outputs: int, inputs: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Factors:
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=dtype) * 0.3  # noqa: E731
    return Factors(draw(3, inputs), draw(outputs, 3), 0.5, draw(outputs).abs() + 0.5)


def adapter(of: Transformer, *names: str, seed: int = 0) -> Adapter:
    return Adapter({name: factors(*of.state_dict()[name].shape, seed=seed) for name in names})


def packed(rows: int = 8, inputs: int = 32, heads: int | None = None) -> PackedLinear:
    values = torch.randn(rows, inputs, generator=torch.Generator().manual_seed(1)).numpy()
    order = None if heads is None else np.arange(rows).reshape(heads, -1, 2).swapaxes(1, 2).ravel()
    return PackedLinear(ggml.encode(values, "Q8_0"), "Q8_0", torch.randn(rows), order=order)


def dense_of(layer: PackedLinear) -> nn.Linear:
    dense = nn.Linear(layer.inputs, layer.rows)
    dense.load_state_dict({"weight": layer.dense(), "bias": layer.bias})
    return dense.requires_grad_(False)


def test_rows_have_the_lengths_that_the_magnitudes_say():
    weight, part = torch.randn(6, 4), factors(6, 4)
    changed = weight + part.delta(weight)
    torch.testing.assert_close(changed.norm(dim=1), part.magnitude)
    straight = weight + 0.5 * part.b @ part.a
    torch.testing.assert_close(nn.functional.cosine_similarity(changed, straight), torch.ones(6))


@pytest.mark.parametrize("heads", [None, 2])
@pytest.mark.parametrize("strength", [1.0, 0.4, -1.5])
def test_a_packed_layer_computes_what_the_changed_matrix_does(heads: int | None, strength: float):
    base, part, x = packed(heads=heads), factors(8, 32), torch.randn(2, 5, 32)
    layer = AdaptedLinear(base)
    layer.add("one", part, train=False)
    layer.strengths["one"] = strength
    weight = base.dense()
    expected = x @ (weight + strength * part.delta(weight)).T + base.bias
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)
    layer.strengths["one"] = 0.0
    assert torch.equal(layer(x), base(x))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_are_those_of_the_formula_with_lengths_held_still(dropout: float):
    base = packed()
    layer, dense = AdaptedLinear(base).train(), dense_of(base)
    layer.add("one", factors(8, 32), train=True)
    layer.dropout = dropout
    x = torch.randn(5, 32, requires_grad=True)
    a, b, m = layer.a["one"], layer.b["one"], layer.magnitude["one"]

    def composed(x: torch.Tensor) -> torch.Tensor:
        seen = nn.functional.dropout(x, dropout) if dropout else x
        lengths = (dense.weight + 0.5 * b @ a).norm(dim=1).detach()
        return (m / lengths) * (x @ dense.weight.T + 0.5 * (seen @ a.T) @ b.T) + dense.bias

    results = []
    for compute in (layer, composed):
        torch.manual_seed(0)
        y = compute(x)
        results.append((y, *torch.autograd.grad(y.sin().sum(), (x, a, b, m))))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


def test_training_starts_at_the_base_and_moves_factors_and_magnitudes():
    base = model("gpt2", tie_word_embeddings=False)  # with biases
    before = logits(base)
    lora.attach(
        base, AdapterConfig(r=2, use_dora=True, target_modules=("linear", "head", "embedding", "norms"))
    )
    torch.testing.assert_close(logits(base), before, atol=1e-5, rtol=1e-5)
    logits(base).square().sum().backward()
    moved = {name for name, one in base.named_parameters() if one.grad is not None and one.grad.abs().sum()}
    assert "blocks.0.mlp.up.magnitude.trained" in moved and "head.magnitude.trained" in moved
    assert not any(name.startswith("embedding.magnitude") or "norm.magnitude" in name for name in moved)
    values = lora.adapter_of(base).factors
    weight = base.get_submodule("blocks.0.mlp.up").base.weight
    torch.testing.assert_close(values["blocks.0.mlp.up.weight"].magnitude, weight.norm(dim=1))
    assert values["norm.weight"].magnitude is None


def test_adapters_of_both_kinds_add_up_and_merge_to_the_same():
    base = model(tie_word_embeddings=False)
    first, second = adapter(base, *NAMES), adapter(base, *NAMES[:2], seed=1)
    plain = random_adapter(base, *NAMES[1:])
    mix = [(first, 0.4), (plain, 1.5), (second, 0.7)]
    before, state = logits(base), base.state_dict()
    weight = state[NAMES[1]]
    total = weight + sum(strength * one.factors[NAMES[1]].delta(weight) for one, strength in mix)
    weights = merged(state, mix)
    torch.testing.assert_close(weights[NAMES[1]], total)
    changed = Transformer(base.config)
    changed.load_state_dict(weights)
    lora.apply(base, mix)
    torch.testing.assert_close(logits(base), logits(changed), atol=2e-4, rtol=1e-4)
    lora.set_strengths(base, dict.fromkeys("012", 0.0))
    assert torch.equal(logits(base), before)


def test_a_row_of_zeros_stays_zero_and_nothing_becomes_infinite():
    dense = nn.Linear(4, 3, bias=False).requires_grad_(False)
    dense.weight[1] = 0
    layer = AdaptedLinear(dense)
    start = Factors(torch.randn(2, 4), torch.zeros(3, 2), 1.0, layer.lengths())
    layer.add("one", start, train=True)
    y = layer(torch.randn(5, 4))
    y.square().sum().backward()
    assert not y[:, 1].any()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters() if parameter.requires_grad)


def test_a_magnitude_that_does_not_fit_is_refused():
    base = model(tie_word_embeddings=False)
    fine = factors(64, 64)
    short = Factors(fine.a, fine.b, 1.0, torch.ones(63))
    with pytest.raises(UserError, match="one value for each output"):
        lora.apply(base, [(Adapter({NAMES[0]: short}), 1.0)])
    with pytest.raises(UserError, match="one value for each output"):
        table = Factors(fine.a, torch.randn(50, 3), 1.0, torch.ones(50))
        lora.apply(base, [(Adapter({"embedding.weight": table}), 1.0)])
    with pytest.raises(UserError, match="finite"):
        endless = Factors(fine.a, fine.b, 1.0, torch.full((64,), torch.inf))
        lora.apply(base, [(Adapter({NAMES[0]: endless}), 1.0)])
    with pytest.raises(UserError, match="another base"):
        dict(merged(base.state_dict(), [(Adapter({NAMES[0]: short}), 1.0)]))


def test_what_is_learnt_whole_can_become_anything():
    base = model(tie_word_embeddings=True)
    before = logits(base)
    config = AdapterConfig(r=2, target_modules=("attention",), modules_to_save=("embedding", "norms"))
    lora.attach(base, config)
    assert torch.equal(logits(base), before)
    logits(base).square().sum().backward()
    table = base.embedding
    assert table.a["trained"].grad is None and table.b["trained"].grad.abs().sum() > 0
    wanted = torch.randn(50, 64)
    with torch.no_grad():
        table.b["trained"].copy_(wanted - table.base.weight)
    ids = torch.arange(50)
    torch.testing.assert_close(table(ids), wanted)
    torch.testing.assert_close(
        lora.adapter_of(base).factors["embedding.weight"].delta(), wanted - table.base.weight
    )
    assert "norm.weight" in lora.layers(base)
    with pytest.raises(UserError, match="head"):
        lora.attach(model(tie_word_embeddings=True), AdapterConfig(modules_to_save=("head",)))
