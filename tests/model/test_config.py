"""Configurations count exactly what the model will hold, and refuse what cannot be built."""

from typing import Any

import pytest

from congling.core.config import build
from congling.core.errors import UserError
from congling.model.config import ModelConfig
from congling.model.counts import (
    active_parameters,
    flops_per_token,
    kv_cache_bytes,
    parameter_table,
    parameters,
)
from congling.model.families import FAMILIES
from congling.model.presets import PRESETS, preset
from congling.model.transformer import Transformer

SIZES: dict[str, Any] = {
    "vocab_size": 61,
    "max_position_embeddings": 32,
    "num_hidden_layers": 3,
    "hidden_size": 64,
}
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
    config = FAMILIES[family](**SIZES, tie_word_embeddings=tied)
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
    assert config.replace(num_hidden_layers=4, **changes).num_hidden_layers == 4


def test_a_configuration_stored_before_the_parts_of_other_families_still_reads():
    old = FAMILIES["qwen3-moe"](**SIZES).model_dump(mode="json")
    del old["positions"]["rope_scaling"], old["attention"]["attention_output_bias"]
    del old["mlp"]["router"]["norm_topk_prob"], old["mlp"]["router"]["routed_scaling_factor"]
    assert build(ModelConfig, old) == FAMILIES["qwen3-moe"](**SIZES)


def test_sizes_of_known_models():
    gpt2 = preset("124m", vocab_size=50257, max_position_embeddings=1024)
    assert parameters(gpt2) == 124_439_808
    assert kv_cache_bytes(gpt2, 1024) == 2 * 12 * 768 * 1024 * 4
    qwen2 = FAMILIES["qwen2"](
        vocab_size=151_936,
        max_position_embeddings=32_768,
        num_hidden_layers=24,
        hidden_size=896,
        num_attention_heads=14,
        num_key_value_heads=2,
        intermediate_size=4864,
    )
    assert parameters(qwen2) == 494_032_768  # Qwen2-0.5B
    mistral = FAMILIES["mistral"](
        vocab_size=32_000,
        max_position_embeddings=32_768,
        num_hidden_layers=32,
        hidden_size=4096,
        num_attention_heads=32,
        tie_word_embeddings=False,
    )
    assert parameters(mistral) == 7_241_732_096  # Mistral 7B v0.1
    deepseek = FAMILIES["deepseek-moe-v1"](
        vocab_size=102_400,
        max_position_embeddings=4096,
        num_hidden_layers=28,
        hidden_size=2048,
        num_attention_heads=16,
        moe_intermediate_size=1408,
        num_experts=64,
        num_experts_per_tok=6,
        n_shared_experts=2,
        intermediate_size=10_944,
        tie_word_embeddings=False,
    )
    assert parameters(deepseek) == 16_375_728_128  # DeepSeek-MoE 16B


def test_flops_of_a_model_counted_by_hand():
    config = FAMILIES["llama"](
        vocab_size=100,
        max_position_embeddings=32,
        num_hidden_layers=2,
        hidden_size=64,
        num_attention_heads=2,
        intermediate_size=128,
    )
    products = 100 * 64 + 2 * (4 * 64 * 64 + 3 * 64 * 128)
    assert flops_per_token(config) == 6 * products + 12 * 2 * 64 * 32
    assert flops_per_token(config, 16) == 6 * products + 12 * 2 * 64 * 16


def test_idle_experts_cost_memory_but_no_operations():
    few, many = (
        FAMILIES["qwen3-moe"](**SIZES, num_experts=n, num_experts_per_tok=2, moe_intermediate_size=64)
        for n in (4, 8)
    )
    assert parameters(many) - parameters(few) == 3 * 4 * (3 * 64 * 64 + 64)
    assert active_parameters(many) - active_parameters(few) == 3 * 4 * 64  # the router's rows
    assert flops_per_token(many) - flops_per_token(few) == 6 * 3 * 4 * 64


def test_presets_keep_exportable_shapes_and_grow():
    sizes = []
    for name in PRESETS:
        config = preset(name, vocab_size=8192, max_position_embeddings=256)
        assert config.hidden_size % 64 == 0 and config.mlp.intermediate_size % 64 == 0
        assert config.attention.head_dim in (32, 64, 128)
        assert config.k_quant_safe == (config.hidden_size % 256 == 0)
        sizes.append(parameters(config))
    assert sizes[:7] == sorted(sizes[:7])
    assert 300e6 < parameters(preset("300m", vocab_size=8192, max_position_embeddings=256)) < 320e6


MOE = {"kind": "moe", "num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 64}


@pytest.mark.parametrize(("changes", "message"), [
    ({"attention": {"num_key_value_heads": 3}}, "multiple of num_key_value_heads"),
    ({"attention": {"head_dim": 31}}, "even head_dim"),
    ({"num_hidden_layers": 0}, "greater than 0"),
    ({"mlp": MOE | {"num_experts_per_tok": 3}}, "exceeds num_experts"),
    ({"mlp": MOE | {"first_k_dense_replace": 1}}, "needs intermediate_size"),
    ({"positions": {"rope_scaling": {"rope_type": "linear", "factor": 0}}}, "greater than 0"),
    ({"positions": {"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4}}}, "less"),
    ({"positions": {"kind": "alibi", "rope_theta": 1.0}}, "rope_theta"),
    ({"mlp": {"kind": "gatde", "intermediate_size": 64}}, "gatde"),
])  # fmt: skip
def test_impossible_configurations_are_refused(changes: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        FAMILIES["qwen3"](**SIZES, num_attention_heads=4).replace(**changes)


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(UserError, match="nano"):
        preset("gigantic", vocab_size=100, max_position_embeddings=32)
    with pytest.raises(UserError, match="qwen3-moe"):
        preset("nano", vocab_size=100, max_position_embeddings=32, family="mamba")


@pytest.mark.parametrize("option", ["experts", "rope_base", "qk_norm", "parts"])
def test_a_family_refuses_what_it_does_not_have(option: str):
    with pytest.raises(TypeError, match=option):
        FAMILIES["gpt2"](**SIZES, **{option: 2})
