"""Adapters around layers: what they compute, train, add up to, and leave behind."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from congling.core.config import build
from congling.core.errors import UserError
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from congling.transform import lora
from congling.transform.adapter import Adapter, Factors
from congling.transform.config import AdapterConfig
from congling.transform.merge import merged

TOKENS = torch.arange(12).view(2, 6) % 50
Build = Callable[..., Transformer]


def model(family: str = "llama", **sizes: object) -> Transformer:
    built = FAMILIES[family](
        vocab_size=50, max_position_embeddings=16, num_hidden_layers=2, hidden_size=64, **sizes
    )
    result = Transformer(built)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in result.parameters():  # outputs that start at zero would hide what is behind them
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return result


def logits(of: Transformer) -> torch.Tensor:
    return of.logits(of(TOKENS))


def random_adapter(of: Transformer, *names: str, seed: int = 0) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator) * 0.1  # noqa: E731
    state = of.state_dict()
    shapes = {name: (*state[name].shape, 1)[:2] for name in names}
    return Adapter({name: Factors(draw(3, i), draw(o, 3), 0.5) for name, (o, i) in shapes.items()})


def with_deltas(of: Transformer, *pairs: tuple[Adapter, float]) -> Transformer:
    """The same model with the products added to its weights, by the definition."""
    other = Transformer(of.config)
    other.load_state_dict(of.state_dict())
    with torch.no_grad():
        for adapter, strength in pairs:
            for name, factors in adapter.factors.items():
                parameter = other.get_parameter(name)
                parameter += (strength * factors.delta()).view_as(parameter)
    return other


ALL = (
    "embedding.weight", "blocks.0.attention.query.weight", "blocks.1.attention.output.weight",
    "blocks.0.mlp.up.weight", "blocks.1.mlp.down.weight", "blocks.0.mlp_norm.weight", "norm.weight",
)  # fmt: skip


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3"])
@pytest.mark.parametrize("tied", [True, False])
def test_adapters_add_up_as_defined(family: str, tied: bool):
    base = model(family, tie_word_embeddings=tied)
    names = ALL if tied else (*ALL, "head.weight")
    first, second = random_adapter(base, *names), random_adapter(base, *names[2:], seed=1)
    expected = logits(with_deltas(base, (first, 0.4), (second, 1.5)))
    before = logits(base)
    lora.apply(base, [(first, 0.4), (second, 1.5)])
    torch.testing.assert_close(logits(base), expected, atol=2e-5, rtol=1e-4)
    lora.set_strengths(base, {"0": 0.0, "1": 0.0})
    assert torch.equal(logits(base), before)
    lora.detach(base)
    assert torch.equal(logits(base), before)
    assert not lora.layers(base)


def test_merging_is_the_same_as_applying():
    base = model(tie_word_embeddings=False)
    adapter = random_adapter(base, *ALL, "head.weight")
    lora.apply(base, [(adapter, 0.7)])
    expected = logits(base)
    lora.detach(base)
    base.load_state_dict(merged(base.state_dict(), [(adapter, 0.7)]))
    torch.testing.assert_close(logits(base), expected, atol=2e-5, rtol=1e-4)


def test_training_starts_at_the_base_and_moves_the_factors_alone():
    base = model()
    before = logits(base)
    lora.attach(base, AdapterConfig(r=4, target_modules=("all",)))
    assert torch.equal(logits(base), before)
    trained = {name for name, parameter in base.named_parameters() if parameter.requires_grad}
    assert trained and all(name.endswith((".a.trained", ".b.trained")) for name in trained)
    logits(base).square().sum().backward()
    grown = {name for name, parameter in base.named_parameters() if parameter.grad is not None}
    assert grown == trained
    assert all(base.get_parameter(name).grad.abs().sum() > 0 for name in grown if ".b." in name)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("tied", [True, False])
def test_gradients_are_those_of_the_composed_layers(dropout: float, tied: bool):
    """Against plain autograd through W + scale · b @ a (dropout: through the same drawn masks)."""
    base = model(tie_word_embeddings=tied).double()
    config = AdapterConfig(r=3, lora_alpha=6, target_modules=("linear", "embedding"), lora_dropout=dropout)
    lora.attach(base, config)
    for layer in lora.layers(base).values():
        for name in ("a", "b"):
            table = getattr(layer, name)
            table["trained"] = nn.Parameter(torch.randn_like(table["trained"], dtype=torch.double) * 0.1)
    base.train()
    layer = base.get_submodule("blocks.0.mlp.up")
    x = torch.randn(5, 64, dtype=torch.double, requires_grad=True)
    a, b = layer.a["trained"], layer.b["trained"]

    def composed(x: torch.Tensor) -> torch.Tensor:
        seen = torch.nn.functional.dropout(x, dropout) if dropout else x
        return layer.base(x) + 2.0 * (seen @ a.T) @ b.T

    results = []
    for compute in (layer, composed):
        torch.manual_seed(0)
        y = compute(x)
        results.append((y, *torch.autograd.grad(y.sin().sum(), (x, a, b))))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_an_adapter_survives_as_values():
    base, other = model(), model()
    lora.attach(base, AdapterConfig(r=4, lora_alpha=8, rank_pattern={"query": 2, "mlp": 6}), seed=5)
    with torch.no_grad():
        for name, parameter in base.named_parameters():
            if ".b." in name:
                parameter.normal_(std=0.1)
    adapter = lora.adapter_of(base, facts={"name": "mine"})
    ranks = {name: factors.rank for name, factors in adapter.factors.items()}
    assert ranks["blocks.0.attention.query.weight"] == 2 and ranks["blocks.1.mlp.down.weight"] == 6
    assert ranks["blocks.0.attention.key.weight"] == 4 and "embedding.weight" not in ranks
    assert adapter.factors["blocks.0.attention.query.weight"].scale == 4.0
    lora.apply(other, [(adapter, 1.0)])
    assert torch.equal(logits(other), logits(base))
    lora.attach(third := model(), AdapterConfig(r=4), seed=5)
    lora.attach(fourth := model(), AdapterConfig(r=4), seed=5)
    assert torch.equal(
        third.get_parameter("blocks.0.attention.query.a.trained"),
        fourth.get_parameter("blocks.0.attention.query.a.trained"),
    )


def test_an_adapter_for_another_base_is_refused():
    base = model()
    fine = random_adapter(base, "blocks.0.mlp.up.weight")
    factors = fine.factors["blocks.0.mlp.up.weight"]
    narrow = Factors(factors.a[:, :-1], factors.b)
    with pytest.raises(UserError, match="other shapes"):
        lora.apply(base, [(Adapter({"blocks.0.mlp.up.weight": narrow}), 1.0)])
    for name in (
        "blocks.7.mlp.up.weight",
        "blocks.0.mlp.up",
        "head.weight",
        "blocks.0.mlp.router.weight",
        "",
    ):
        with pytest.raises(UserError, match="lacks"):
            lora.apply(base, [(Adapter({name: factors}), 1.0)])
    with pytest.raises(UserError, match="finite"):
        lora.apply(
            base, [(Adapter({"blocks.0.mlp.up.weight": Factors(factors.a * float("nan"), factors.b)}), 1.0)]
        )
    for strength in (float("nan"), float("inf")):
        with pytest.raises(UserError, match="finite"):
            lora.apply(base, [(fine, strength)])
    with pytest.raises(UserError, match="empty"):
        lora.apply(base, [(Adapter({}), 1.0)])
    assert not lora.layers(base)


def test_targets():
    with pytest.raises(UserError, match="head"):
        lora.attach(model(tie_word_embeddings=True), AdapterConfig(target_modules=("head",)))
    lora.attach(
        untied := model(tie_word_embeddings=False), AdapterConfig(target_modules=("head", "blocks.1.*.query"))
    )
    assert set(lora.layers(untied)) == {"head.weight", "blocks.1.attention.query.weight"}
    with pytest.raises(UserError, match="kind 'quary'"):
        build(AdapterConfig, {"target_modules": ["quary"]})
    with pytest.raises(UserError, match="kind 'quary'"):
        build(AdapterConfig, {"rank_pattern": {"quary": 1}})
    config = AdapterConfig(r=1, rank_pattern={"attention": 2, "query": 3, "blocks.0.*": 4, "all": 5})
    names = ("blocks.0.attention.query", "blocks.1.attention.query", "blocks.1.attention.key", "norm")
    assert [config.rank_of(name) for name in names] == [4, 3, 2, 5]
    stabilised = AdapterConfig(r=16, lora_alpha=16, use_rslora=True)
    assert stabilised.scale_of("head") == 4.0


def test_a_second_adapter_trains_on_top_of_a_finished_one():
    base = model()
    finished = random_adapter(base, "blocks.0.mlp.up.weight", "blocks.0.mlp.down.weight")
    lora.apply(base, [(finished, 1.0)])
    before = logits(base)
    lora.attach(base, AdapterConfig(r=2))
    torch.testing.assert_close(logits(base), before)
    logits(base).sum().backward()
    assert base.get_parameter("blocks.0.mlp.up.b.trained").grad is not None
    assert base.get_parameter("blocks.0.mlp.up.b.0").grad is None
    lora.add(other := model(), "mine", finished, train=True)
    logits(other).sum().backward()
    assert other.get_parameter("blocks.0.mlp.up.b.mine").grad is not None
