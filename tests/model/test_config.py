"""Configurations count exactly what the model will hold, and refuse what cannot be built."""

from typing import Any

import pytest

from congling.core.config import build
from congling.core.errors import UserError
from congling.model.config import (
    ModelConfig,
    active_parameters,
    flops_per_token,
    kv_cache_bytes,
    parameter_table,
    parameters,
)
from congling.model.families import FAMILIES
from congling.model.presets import PRESETS, preset
from congling.model.transformer import Transformer

SIZES: dict[str, Any] = {"vocab_size": 61, "context": 32, "layers": 3, "width": 64}
PARTS = {
    "embedding": ("embedding.",),
    "positions": ("positions.",),
    "attention": ("attention.query.", "attention.key.", "attention.value.", "attention.output."),
    "mlp": (".mlp.",),
    "norms": ("norm.",),
    "head": ("head.",),
}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_table_counts_each_part_exactly(family: str, tied: bool):
    config = FAMILIES[family](**SIZES, tied=tied)
    counted = dict.fromkeys(PARTS, 0)
    for name, parameter in Transformer(config).named_parameters():
        (part,) = (part for part, marks in PARTS.items() if any(mark in name for mark in marks))
        counted[part] += parameter.numel()
    assert parameter_table(config) == counted


@pytest.mark.parametrize("family", FAMILIES)
def test_a_configuration_survives_toml_and_json(family: str):
    config = FAMILIES[family](**SIZES)
    assert build(ModelConfig, config.model_dump(mode="json")) == config
    types = config.attention.layer_types  # of a family whose layers differ, one for each
    changes = {} if types is None else {"attention": {"layer_types": types[:1] * 4}}
    assert config.replace(layers=4, **changes).layers == 4


def test_a_configuration_stored_before_the_parts_of_other_families_still_reads():
    old = FAMILIES["qwen3-moe"](**SIZES).model_dump(mode="json")
    del old["positions"]["scaling"], old["attention"]["output_bias"]
    del old["mlp"]["router"]["normalise"], old["mlp"]["router"]["scale"]
    assert build(ModelConfig, old) == FAMILIES["qwen3-moe"](**SIZES)


def test_sizes_of_known_models():
    gpt2 = preset("124m", vocab_size=50257, context=1024)
    assert parameters(gpt2) == 124_439_808
    assert kv_cache_bytes(gpt2, 1024) == 2 * 12 * 768 * 1024 * 4
    qwen2 = FAMILIES["qwen2"](
        vocab_size=151_936, context=32_768, layers=24, width=896, heads=14, kv_heads=2, hidden=4864
    )
    assert parameters(qwen2) == 494_032_768  # Qwen2-0.5B
    mistral = FAMILIES["mistral"](
        vocab_size=32_000, context=32_768, layers=32, width=4096, heads=32, tied=False
    )
    assert parameters(mistral) == 7_241_732_096  # Mistral 7B v0.1
    deepseek = FAMILIES["deepseek-moe-v1"](
        vocab_size=102_400,
        context=4096,
        layers=28,
        width=2048,
        heads=16,
        hidden=1408,
        experts=64,
        active=6,
        shared=2,
        dense_hidden=10_944,
        tied=False,
    )
    assert parameters(deepseek) == 16_375_728_128  # DeepSeek-MoE 16B


def test_flops_of_a_model_counted_by_hand():
    config = FAMILIES["llama"](vocab_size=100, context=32, layers=2, width=64, heads=2, hidden=128)
    products = 100 * 64 + 2 * (4 * 64 * 64 + 3 * 64 * 128)
    assert flops_per_token(config) == 6 * products + 12 * 2 * 64 * 32
    assert flops_per_token(config, 16) == 6 * products + 12 * 2 * 64 * 16


def test_idle_experts_cost_memory_but_no_operations():
    few, many = (FAMILIES["qwen3-moe"](**SIZES, experts=n, active=2, hidden=64) for n in (4, 8))
    assert parameters(many) - parameters(few) == 3 * 4 * (3 * 64 * 64 + 64)
    assert active_parameters(many) - active_parameters(few) == 3 * 4 * 64  # the router's rows
    assert flops_per_token(many) - flops_per_token(few) == 6 * 3 * 4 * 64


def test_presets_keep_exportable_shapes_and_grow():
    sizes = []
    for name in PRESETS:
        config = preset(name, vocab_size=8192, context=256)
        assert config.width % 64 == 0 and config.mlp.hidden % 64 == 0
        assert config.attention.head_width in (32, 64, 128)
        assert config.k_quant_safe == (config.width % 256 == 0)
        sizes.append(parameters(config))
    assert sizes[:7] == sorted(sizes[:7])
    assert 300e6 < parameters(preset("300m", vocab_size=8192, context=256)) < 320e6


@pytest.mark.parametrize(("changes", "message"), [
    ({"attention": {"kv_heads": 3}}, "multiple of kv_heads"),
    ({"attention": {"head_width": 31}}, "even head_width"),
    ({"layers": 0}, "greater than 0"),
    ({"mlp": {"kind": "moe", "experts": 2, "active": 3, "hidden": 64}}, "exceeds experts"),
    ({"mlp": {"kind": "moe", "experts": 2, "active": 1, "hidden": 64, "dense_layers": 1}}, "dense_hidden"),
    ({"positions": {"scaling": {"kind": "linear", "factor": 0}}}, "greater than 0"),
    ({"positions": {"scaling": {"kind": "llama3", "factor": 8, "low_frequency_factor": 4}}}, "less than"),
    ({"positions": {"kind": "alibi", "base": 1.0}}, "base"),
    ({"mlp": {"kind": "gatde", "hidden": 64}}, "gatde"),
])  # fmt: skip
def test_impossible_configurations_are_refused(changes: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        FAMILIES["qwen3"](**SIZES, heads=4).replace(**changes)


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(UserError, match="nano"):
        preset("gigantic", vocab_size=100, context=32)
    with pytest.raises(UserError, match="qwen3-moe"):
        preset("nano", vocab_size=100, context=32, family="mamba")


@pytest.mark.parametrize("option", ["experts", "rope_base", "qk_norm", "parts"])
def test_a_family_refuses_what_it_does_not_have(option: str):
    with pytest.raises(TypeError, match=option):
        FAMILIES["gpt2"](**SIZES, **{option: 2})
