"""Published configurations are understood to the last parameter; what has no part here is refused."""

from typing import Any

import pytest

from congling.core.errors import UserError
from congling.interop.hf.architecture import architecture, misfit
from congling.interop.hf.config import config_from
from congling.interop.hf.config_writing import config_json
from congling.interop.hf.conventions import normalised_head
from congling.model.counts import parameters
from congling.model.families import FAMILIES

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
DECODER = {"hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": False}
PUBLISHED: dict[str, tuple[dict[str, Any], int]] = {
    "Llama 3.1 8B": (DECODER | {
        "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "intermediate_size": 14336,
        "max_position_embeddings": 131072, "num_attention_heads": 32, "num_hidden_layers": 32,
        "num_key_value_heads": 8, "rope_scaling": LLAMA3, "vocab_size": 128256,
    }, 8_030_261_248),
    "Mistral 7B v0.3": (DECODER | {
        "architectures": ["MistralForCausalLM"], "hidden_size": 4096, "intermediate_size": 14336,
        "max_position_embeddings": 32768, "num_attention_heads": 32, "num_hidden_layers": 32,
        "num_key_value_heads": 8, "sliding_window": None, "vocab_size": 32768,
    }, 7_248_023_552),
    "Qwen2.5 0.5B": (DECODER | {
        "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "sliding_window": 32768,
        "max_position_embeddings": 32768, "num_attention_heads": 14, "num_hidden_layers": 24,
        "num_key_value_heads": 2, "tie_word_embeddings": True, "use_sliding_window": False,
        "max_window_layers": 24, "vocab_size": 151936,
    }, 494_032_768),
    "Qwen3 0.6B": (DECODER | {
        "architectures": ["Qwen3ForCausalLM"], "head_dim": 128, "hidden_size": 1024,
        "intermediate_size": 3072, "max_position_embeddings": 40960, "num_attention_heads": 16,
        "num_hidden_layers": 28, "num_key_value_heads": 8, "tie_word_embeddings": True,
        "vocab_size": 151936,
    }, 596_049_920),
    "Qwen3 30B A3B": (DECODER | {
        "architectures": ["Qwen3MoeForCausalLM"], "head_dim": 128, "hidden_size": 2048,
        "intermediate_size": 6144, "max_position_embeddings": 40960, "mlp_only_layers": [],
        "moe_intermediate_size": 768, "norm_topk_prob": True, "num_attention_heads": 32,
        "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 48, "num_key_value_heads": 4,
        "vocab_size": 151936,
    }, 30_532_122_624),
    "Mixtral 8x7B": (DECODER | {
        "architectures": ["MixtralForCausalLM"], "hidden_size": 4096, "intermediate_size": 14336,
        "max_position_embeddings": 32768, "num_attention_heads": 32, "num_experts_per_tok": 2,
        "num_hidden_layers": 32, "num_key_value_heads": 8, "num_local_experts": 8, "sliding_window": None,
        "vocab_size": 32000,
    }, 46_702_792_704),
    "DeepSeek-MoE 16B": (DECODER | {
        "architectures": ["DeepseekForCausalLM"], "first_k_dense_replace": 1, "hidden_size": 2048,
        "intermediate_size": 10944, "max_position_embeddings": 4096, "moe_intermediate_size": 1408,
        "moe_layer_freq": 1, "n_routed_experts": 64, "n_shared_experts": 2, "norm_topk_prob": False,
        "num_attention_heads": 16, "num_experts_per_tok": 6, "num_hidden_layers": 28,
        "num_key_value_heads": 16, "scoring_func": "softmax", "vocab_size": 102400,
    }, 16_375_728_128),
    "dots.llm1": (DECODER | {  # its 7808 steering biases are no parameters here
        "architectures": ["Dots1ForCausalLM"], "first_k_dense_replace": 1, "hidden_size": 4096,
        "intermediate_size": 10944, "max_position_embeddings": 32768, "moe_intermediate_size": 1408,
        "n_group": 1, "n_routed_experts": 128, "n_shared_experts": 2, "norm_topk_prob": True,
        "num_attention_heads": 32, "num_experts_per_tok": 6, "num_hidden_layers": 62,
        "num_key_value_heads": 32, "routed_scaling_factor": 2.5, "sliding_window": None, "topk_group": 1,
        "vocab_size": 152064,
    }, 142_774_381_696 - 7808),
    "Baichuan 7B": (DECODER | {
        "architectures": ["BaiChuanForCausalLM"], "hidden_size": 4096, "intermediate_size": 11008,
        "max_position_embeddings": 4096, "num_attention_heads": 32, "num_hidden_layers": 32,
        "vocab_size": 64000,
    }, 7_000_559_616),
    "Baichuan 2 13B": (DECODER | {
        "architectures": ["BaichuanForCausalLM"], "hidden_size": 5120, "intermediate_size": 13696,
        "model_max_length": 4096, "num_attention_heads": 40, "num_hidden_layers": 40,
        "vocab_size": 125696, "z_loss_weight": 0,
    }, 13_896_668_160),
    "Ernie 4.5 0.3B": ({  # its class under the name it was first published by
        "architectures": ["Ernie4_5_ForCausalLM"], "head_dim": 128, "hidden_act": "silu",
        "hidden_size": 1024, "intermediate_size": 3072, "max_position_embeddings": 131072,
        "num_attention_heads": 16, "num_hidden_layers": 18, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
        "rope_scaling": None, "rope_theta": 500000.0, "use_bias": False, "vocab_size": 103424,
    }, 360_748_032),
    "HunYuan 7B": (DECODER | {
        "model_type": "hunyuan_v1_dense", "attention_bias": False, "head_dim": 128, "hidden_size": 4096,
        "intermediate_size": 14336, "max_position_embeddings": 32768, "num_attention_heads": 32,
        "num_hidden_layers": 32, "num_key_value_heads": 8, "tie_word_embeddings": True,
        "rope_scaling": {"alpha": 1000.0, "factor": 1.0, "type": "dynamic"},
        "use_cla": False, "use_qk_norm": True, "vocab_size": 128167,
    }, 7_504_568_320),
    "MiniCPM 2B": ({
        "architectures": ["MiniCPMForCausalLM"], "dim_model_base": 256, "hidden_act": "silu",
        "hidden_size": 2304, "intermediate_size": 5760, "max_position_embeddings": 4096,
        "num_attention_heads": 36, "num_hidden_layers": 40, "num_key_value_heads": 36, "rms_norm_eps": 1e-5,
        "rope_scaling": None, "scale_depth": 1.4, "scale_emb": 12, "vocab_size": 122753,
    }, 2_724_880_896),
    "InternLM2 1.8B": ({
        "architectures": ["InternLM2ForCausalLM"], "bias": False, "hidden_act": "silu", "hidden_size": 2048,
        "intermediate_size": 8192, "max_position_embeddings": 32768, "num_attention_heads": 16,
        "num_hidden_layers": 24, "num_key_value_heads": 8, "rms_norm_eps": 1e-5,
        "rope_scaling": {"factor": 2.0, "type": "dynamic"}, "rope_theta": 1000000,
        "tie_word_embeddings": False, "vocab_size": 92544,
    }, 1_889_110_016),
    "SmolLM3 3B": ({
        "architectures": ["SmolLM3ForCausalLM"], "hidden_size": 2048, "intermediate_size": 11008,
        "max_position_embeddings": 65536, "num_attention_heads": 16, "num_hidden_layers": 36,
        "num_key_value_heads": 4, "rms_norm_eps": 1e-6, "rope_theta": 5000000.0, "vocab_size": 128256,
    }, 3_075_098_624),
    "Granite 3.1 2B": (DECODER | {
        "architectures": ["GraniteForCausalLM"], "attention_multiplier": 0.015625,
        "embedding_multiplier": 12.0, "hidden_size": 2048, "intermediate_size": 8192,
        "logits_scaling": 8.0, "max_position_embeddings": 131072, "num_attention_heads": 32,
        "num_hidden_layers": 40, "num_key_value_heads": 8, "residual_multiplier": 0.22,
        "tie_word_embeddings": True, "vocab_size": 49155,
    }, 2_533_531_648),
    "OLMo 2 1B": ({
        "architectures": ["Olmo2ForCausalLM"], "hidden_size": 2048, "intermediate_size": 8192,
        "max_position_embeddings": 4096, "num_attention_heads": 16, "num_hidden_layers": 16,
        "num_key_value_heads": 16, "rope_theta": 500000, "vocab_size": 100352,
    }, 1_484_916_736),
    "GLM-4 9B 0414": ({
        "architectures": ["Glm4ForCausalLM"], "attention_bias": False, "head_dim": 128, "hidden_size": 4096,
        "intermediate_size": 13696, "max_position_embeddings": 32768, "num_attention_heads": 32,
        "num_hidden_layers": 40, "num_key_value_heads": 2, "partial_rotary_factor": 0.5, "vocab_size": 151552,
    }, 9_400_094_720),
    "GPT-2": ({
        "architectures": ["GPT2LMHeadModel"], "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12,
        "n_positions": 1024, "vocab_size": 50257,
    }, 124_439_808),
}  # fmt: skip


@pytest.mark.parametrize("model", PUBLISHED)
def test_published_models_have_their_published_size(model: str):
    values, size = PUBLISHED[model]
    config = config_from(values, "config.json")
    assert parameters(config) == size
    if "Baichuan" in model:
        assert config.positions.kind == ("alibi" if "13B" in model else "rope")


LLAMA = PUBLISHED["Llama 3.1 8B"][0]
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another class": ({"architectures": ["MambaForCausalLM"]}, "architectures.*MambaForCausalLM"),
    "no class": ({"architectures": None}, "architectures"),
    "classes that are none": ({"architectures": [["LlamaForCausalLM"]]}, "architectures"),
    "activation": ({"hidden_act": "relu"}, "hidden_act.*relu"),
    "biases of the MLP": ({"architectures": ["MistralForCausalLM"], "mlp_bias": True}, "mlp_bias"),
    "rotary kind": ({"rope_scaling": {"rope_type": "proportional"}}, "proportional.*\n.*linear"),
    "older rotary kind": ({"rope_scaling": {"type": "mrope", "factor": 4.0}}, "mrope"),
    "rotary kind of transformers 5": (
        {"rope_scaling": None, "rope_parameters": {"rope_type": "axial"}}, "axial",
    ),
    "rotary table": ({"rope_scaling": "linear"}, "rope_scaling"),
    "rotary factor": ({"rope_scaling": {"rope_type": "linear"}}, "factor"),
    "rotary factor of zero": ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "factor"),
    "rotary part": ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    "missing key": ({"hidden_size": None}, "missing.*hidden_size"),
    "text for a number": ({"hidden_size": "4096"}, "hidden_size"),
    "truth for a number": ({"num_hidden_layers": True}, "num_hidden_layers"),
    "number for truth": ({"tie_word_embeddings": 1}, "tie_word_embeddings"),
    "huge number": ({"hidden_size": 2**63}, "hidden_size"),
    "negative number": ({"vocab_size": -1}, "vocab_size"),
    "num_attention_heads": ({"num_attention_heads": 7}, "multiple"),
    "groups of heads": ({"num_key_value_heads": 5}, "num_key_value_heads"),
    "epsilon": ({"rms_norm_eps": 0}, r"norm\.eps"),
    "endless epsilon": ({"rms_norm_eps": float("inf")}, r"norm\.eps"),
    "odd heads": ({"head_dim": 33}, "even head_dim"),
}  # fmt: skip


WINDOWS: dict[str, tuple[dict[str, Any], int]] = {
    "window": ({"architectures": ["MistralForCausalLM"], "sliding_window": 4096}, 4096),
    "window left out": ({"architectures": ["MistralForCausalLM"]}, 4096),
    "of some layers": (
        {"architectures": ["Qwen2ForCausalLM"], "use_sliding_window": True, "sliding_window": 64}, 64,
    ),
    "kinds of layers": ({"sliding_window": 64, "layer_types": ["sliding_attention"]}, 64),
    "wider than the context": ({"architectures": ["MistralForCausalLM"], "sliding_window": 2**20}, 131_072),
    "none": ({"architectures": ["MistralForCausalLM"], "sliding_window": None}, 131_072),
}  # fmt: skip


@pytest.mark.parametrize("case", WINDOWS)
def test_the_context_ends_where_a_window_would_begin_to_hide_tokens(case: str):
    changes, context = WINDOWS[case]
    assert config_from(LLAMA | changes, "config.json").max_position_embeddings == context


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_part_here_is_refused_by_its_key(case: str):
    changes, message = REFUSED[case]
    with pytest.raises(UserError, match=message):
        config_from(LLAMA | changes, "config.json")


def test_routing_without_counterpart_is_refused():
    dots = PUBLISHED["dots.llm1"][0]
    for changes in ({"norm_topk_prob": False}, {"n_group": 8, "topk_group": 4}, {"moe_layer_freq": 2}):
        with pytest.raises(UserError, match=next(iter(changes))):
            config_from(dots | changes, "config.json")
    qwen = PUBLISHED["Qwen3 30B A3B"][0]
    for changes in ({"decoder_sparse_step": 2}, {"mlp_only_layers": [3]}):
        with pytest.raises(UserError, match=next(iter(changes))):
            config_from(qwen | changes, "config.json")


@pytest.mark.parametrize("model", PUBLISHED)
def test_a_configuration_written_is_read_as_it_was(model: str):
    config = config_from(PUBLISHED[model][0], "config.json")
    if misfit(config) is None:
        assert config_from(config_json(config, {}, "float32"), "config.json") == config
    else:
        assert model in ("Baichuan 2 13B", "DeepSeek-MoE 16B")


HEADS: dict[str, tuple[dict[str, Any], bool]] = {
    "Baichuan 13B": ({"model_max_length": 4096, "vocab_size": 64000}, False),
    "with pieces added": ({"model_max_length": 4096, "vocab_size": 64123}, False),
    "Baichuan 2 7B": ({"max_position_embeddings": 4096, "vocab_size": 125696}, True),
    "of any vocabulary": ({"max_position_embeddings": 4096, "vocab_size": 32000}, True),
    "Baichuan 2 13B": ({"model_max_length": 4096, "vocab_size": 125696}, True),
    "by its size": ({"model_max_length": 4096, "vocab_size": 125697}, True),
    "by its loss": ({"model_max_length": 4096, "vocab_size": 32000, "z_loss_weight": 0}, True),
}  # fmt: skip


@pytest.mark.parametrize("case", HEADS)
def test_baichuan_2_is_told_whatever_its_vocabulary(case: str):
    values, normalised = HEADS[case]
    assert normalised_head(values) == normalised


ODD: dict[str, tuple[str, dict[str, Any]]] = {
    "use_bias": ("Ernie 4.5 0.3B", {"use_bias": 1}),
    "use_qk_norm": ("HunYuan 7B", {"use_qk_norm": False}),
    "use_cla": ("HunYuan 7B", {"use_cla": True}),
    "num_experts": ("MiniCPM 2B", {"num_experts": 8}),
    "sparse_config": ("MiniCPM 2B", {"sparse_config": {"topk": 64}}),
    "short_factor": ("MiniCPM 2B", {"rope_scaling": {"rope_type": "longrope"}}),
    "scale_emb": ("MiniCPM 2B", {"scale_emb": "12"}),
    "dim_model_base": ("MiniCPM 2B", {"dim_model_base": 0}),
    "no_rope_layers": ("SmolLM3 3B", {"no_rope_layers": [1, 0]}),
    "no_rope_layers: a list with 0 or 1": ("SmolLM3 3B", {"no_rope_layers": ["1", "0"] * 18}),
    "use_sliding_window": ("SmolLM3 3B", {"use_sliding_window": "false", "sliding_window": 8}),
    "max_window_layers": (
        "Qwen2.5 0.5B",
        {"use_sliding_window": True, "max_window_layers": "21", "sliding_window": 32},
    ),
    "use_qk_norm is not": ("HunYuan 7B", {"use_qk_norm": 1}),
    "logits_scaling": ("Granite 3.1 2B", {"logits_scaling": 0}),
    "alpha": ("HunYuan 7B", {"rope_scaling": {"type": "dynamic", "alpha": "1000"}}),
    "alpha: no factor": ("HunYuan 7B", {"rope_scaling": {"type": "dynamic", "alpha": 1e308}}),
}


@pytest.mark.parametrize("key", ODD)
def test_settings_of_the_newer_classes_are_checked(key: str):
    model, changes = ODD[key]
    with pytest.raises(UserError, match=key):
        config_from(PUBLISHED[model][0] | changes, "config.json")


def test_what_the_newer_classes_are_made_of():
    hunyuan = config_from(PUBLISHED["HunYuan 7B"][0], "config.json")
    assert hunyuan.positions.rope_theta == pytest.approx(10_000 * 1000 ** (128 / 126) * 100)  # type: ignore[union-attr]
    minicpm = config_from(PUBLISHED["MiniCPM 2B"][0], "config.json")
    assert minicpm.residual_multiplier == pytest.approx(1.4 / 40**0.5)
    assert (minicpm.embedding_multiplier, minicpm.logits_scaling, minicpm.tie_word_embeddings) == (
        12,
        9,
        True,
    )
    smollm3 = config_from(PUBLISHED["SmolLM3 3B"][0], "config.json")
    assert [layer for layer in range(36) if not smollm3.rotated(layer)] == list(range(3, 36, 4))
    granite = config_from(PUBLISHED["Granite 3.1 2B"][0], "config.json")
    assert granite.attention.attention_multiplier == 0.015625


@pytest.mark.parametrize(("family", "changes", "message"), [
    ("baichuan", {}, "rotary positions.*\n.*GGUF"),
    ("deepseek-moe-v1", {}, "no shared experts"),
    ("qwen3", {"attention": {"attention_output_bias": True}}, "biases in all four"),
    ("llama", {"norm": {"kind": "layer"}}, "RMS normalisation"),
    ("gpt2", {"attention": {"num_key_value_heads": 1}}, "as many key/value heads"),
])  # fmt: skip
def test_a_model_no_class_computes_is_refused_with_the_nearest(family: str, changes: Any, message: str):
    sizes: dict[str, Any] = {
        "vocab_size": 97,
        "max_position_embeddings": 48,
        "num_hidden_layers": 2,
        "hidden_size": 64,
    }
    config = FAMILIES[family](**sizes).replace(**changes)
    with pytest.raises(UserError, match=message):
        architecture(config)


@pytest.mark.parametrize(
    ("name", "ours"),
    [(None, "gelu_new"), ("gelu_pytorch_tanh", "gelu_new"), ("gelu", "gelu"), ("gelu_python", "gelu")],
)
def test_both_forms_of_gelu_are_told_apart(name: str | None, ours: str) -> None:
    values = PUBLISHED["GPT-2"][0] | {"activation_function": name}
    found = config_from(values, "config.json")
    assert found.mlp.model_dump()["hidden_act"] == ours
    assert config_json(found, {}, "float32")["activation_function"] == ours
    with pytest.raises(UserError, match="activation_function"):
        config_from(values | {"activation_function": "relu"}, "config.json")


def test_of_both_tables_of_rotary_positions_the_older_one_wins_as_in_transformers() -> None:
    values = PUBLISHED["Qwen3 0.6B"][0] | {
        "rope_theta": 1e6,
        "rope_scaling": {"rope_type": "linear", "factor": 4.0},
        "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e4},
    }
    found = config_from(values, "config.json").positions.model_dump()
    assert (found["rope_theta"], found["rope_scaling"]["factor"]) == (1e6, 4.0)
    found = config_from(values | {"rope_scaling": None}, "config.json").positions.model_dump()
    assert (found["rope_theta"], found["rope_scaling"]["factor"]) == (5e4, 2.0)
