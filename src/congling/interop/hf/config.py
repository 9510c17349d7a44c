"""``config.json`` of a Hugging Face model to our configuration: which parts a foreign model is made of.

Whatever changes the computation and has no part here is refused by its key; what concerns training or a
program alone is passed over. Without torch.
"""

from collections.abc import Callable, Mapping
from typing import Any

from congling.core.config import build
from congling.core.errors import UserError
from congling.interop.hf import variants
from congling.interop.hf.parts import decoder
from congling.interop.hf.settings import Settings
from congling.model.config import ModelConfig

_GLM: dict[str, Any] = {
    "hidden_act": "silu",
    "rms_norm_eps": 1.5625e-7,
    "partial_rotary_factor": 0.5,
    "attention_bias": True,
    "head_dim": 128,
}
_DEFAULTS: dict[str, dict[str, Any]] = {  # what transformers takes where a key is left out
    "LlamaForCausalLM": {"hidden_act": "silu"},
    "MistralForCausalLM": {"hidden_act": "silu", "sliding_window": 4096},
    "Qwen2ForCausalLM": {"hidden_act": "silu", "max_window_layers": 28, "use_sliding_window": False},
    "Qwen3ForCausalLM": {
        "hidden_act": "silu", "max_window_layers": 28, "use_sliding_window": False, "head_dim": 128,
    },
    "GPT2LMHeadModel": {
        "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True,
    },
    "MixtralForCausalLM": {"hidden_act": "silu", "rope_theta": 1_000_000.0, "rms_norm_eps": 1e-5},
    "Qwen3MoeForCausalLM": {"hidden_act": "silu", "use_sliding_window": False, "decoder_sparse_step": 1},
    "Dots1ForCausalLM": {"hidden_act": "silu", "n_group": 1, "topk_group": 1, "max_window_layers": 62,
                         "sliding_window": 4096},
    "DeepseekForCausalLM": {"hidden_act": "silu", "aux_loss_alpha": 0.001, "routed_scaling_factor": 1.0},
    "Olmo2ForCausalLM": {"hidden_act": "silu", "rms_norm_eps": 1e-5},
    "Ernie4_5ForCausalLM": {"hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 500_000.0,
                            "tie_word_embeddings": True},
    "HunYuanDenseV1ForCausalLM": {"hidden_act": "silu", "rms_norm_eps": 1e-5},
    "MiniCPMForCausalLM": {"hidden_act": "silu", "tie_word_embeddings": True, "scale_emb": 1,
                           "scale_depth": 1, "dim_model_base": 1},
    "GraniteForCausalLM": {"hidden_act": "silu", "attention_multiplier": 1.0, "embedding_multiplier": 1.0,
                           "residual_multiplier": 1.0, "logits_scaling": 1.0},
    "InternLM2ForCausalLM": {"hidden_act": "silu", "bias": True},
    "SmolLM3ForCausalLM": {"hidden_act": "silu", "rope_theta": 2_000_000.0, "no_rope_layer_interval": 4,
                           "tie_word_embeddings": True, "use_sliding_window": False},
    "MiniMindForCausalLM": {"hidden_act": "silu", "rope_theta": 1_000_000.0, "tie_word_embeddings": True,
                            "dropout": 0.0, "norm_topk_prob": True, "router_aux_loss_coef": 5e-4,
                            "aux_loss_alpha": 0.01},
    "Gemma3ForCausalLM": {
        "hidden_activation": "gelu_pytorch_tanh", "hidden_act": "silu", "rope_theta": 1_000_000.0,
        "rope_local_base_freq": 10_000.0, "head_dim": 256, "query_pre_attn_scalar": 256,
        "sliding_window": 4096, "sliding_window_pattern": 6, "tie_word_embeddings": True,
        "num_attention_heads": 8, "num_key_value_heads": 4,
    },
    "GlmForCausalLM": _GLM,
    "Glm4ForCausalLM": _GLM,
    "BaiChuanForCausalLM": {"hidden_act": "silu"},
    "BaichuanForCausalLM": {"hidden_act": "silu"},
}  # fmt: skip
_TYPES = {
    "llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM", "gpt2": "GPT2LMHeadModel", "mixtral": "MixtralForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM", "dots1": "Dots1ForCausalLM", "deepseek": "DeepseekForCausalLM",
    "baichuan": "BaichuanForCausalLM", "olmo2": "Olmo2ForCausalLM", "ernie4_5": "Ernie4_5ForCausalLM",
    "hunyuan_v1_dense": "HunYuanDenseV1ForCausalLM", "minicpm": "MiniCPMForCausalLM",
    "granite": "GraniteForCausalLM", "internlm2": "InternLM2ForCausalLM", "smollm3": "SmolLM3ForCausalLM",
    "minimind": "MiniMindForCausalLM", "glm": "GlmForCausalLM", "glm4": "Glm4ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
}  # fmt: skip
_GELU = {
    "gelu": "gelu", "gelu_python": "gelu", "gelu_new": "gelu_new", "gelu_pytorch_tanh": "gelu_new",
    "gelu_python_tanh": "gelu_new", "gelu_fast": "gelu_new", "gelu_accurate": "gelu_new",
}  # fmt: skip
"""Names under which transformers has the one form of GELU or the other."""
_FORMER = {"Ernie4_5_ForCausalLM": "Ernie4_5ForCausalLM"}
"""Names under which classes were first published."""
_KINDS: dict[str, tuple[str, ...]] = {
    "DeepseekForCausalLM": ("linear", "dynamic"), "InternLM2ForCausalLM": ("linear", "dynamic"),
    "MiniCPMForCausalLM": ("linear", "dynamic", "longrope"), "BaiChuanForCausalLM": (),
    "BaichuanForCausalLM": (), "MiniMindForCausalLM": (),
}  # fmt: skip
"""Kinds of stretched positions of the classes with code of their own. (MiniMind has a yarn: versions of its
code compute different ones.)"""
_COMMON = {"rms_norm_eps": 1e-6, "rope_theta": 10_000.0, "routed_scaling_factor": 1.0}


def architecture_of(values: Mapping[str, Any], where: object) -> str:
    """The class that computes the model: a key of ``names.ARCHITECTURES``.

    Raises:
        UserError: it is none of those that can be read.
    """
    given = values.get("architectures")
    name = given[0] if isinstance(given, list) and given else None
    if name is None:
        kind = values.get("model_type")
        name = _TYPES.get(kind) if isinstance(kind, str) else None
    name = _FORMER.get(name, name) if isinstance(name, str) else name
    if not isinstance(name, str) or name not in _DEFAULTS:
        raise UserError(
            "architectures: this model cannot be read",
            where=where,
            value=given or values.get("model_type"),
            hint=f"supported: {', '.join(_DEFAULTS)}",
        )
    return name


def config_from(values: Mapping[str, Any], where: object) -> ModelConfig:
    """Our configuration of a foreign model.

    Raises:
        UserError: the architecture or one of its settings has no counterpart here, a key is missing or
            absurd.
    """
    name = architecture_of(values, where)
    settings = Settings(values, where, {**_COMMON, **_DEFAULTS[name]})
    config = build(ModelConfig, _BUILDERS[name](settings), where=where)
    scaling = config.positions.rope_scaling if config.positions.kind == "rope" else None
    if scaling is not None and scaling.rope_type not in _KINDS.get(name, (scaling.rope_type,)):
        raise UserError(
            f"rope_scaling: the code of {name} has no positions of this kind that are known here",
            where=where,
            value=scaling.rope_type,
            hint=f"it has: {', '.join(('default', *_KINDS[name]))}",
        )
    return config


def _qwen2(settings: Settings) -> dict[str, Any]:
    values = decoder(settings)
    values["attention"] |= {"attention_bias": True, "attention_output_bias": False}
    return values


def _qwen3(settings: Settings) -> dict[str, Any]:
    values = decoder(settings)
    values["attention"]["qk_norm"] = True
    return values


def _olmo2(settings: Settings) -> dict[str, Any]:
    values = _qwen3(settings)
    values["attention"]["qk_norm_over"] = "projection"
    return values | {"norm_placement": "post", "initial": {"kind": "scaled-normal"}}


def _gpt2(settings: Settings) -> dict[str, Any]:
    settings.require("activation_function", *_GELU)
    settings.require("scale_attn_weights", True)
    settings.require("scale_attn_by_inverse_layer_idx", False)
    settings.require("add_cross_attention", False)
    width, heads = settings.integer("n_embd"), settings.integer("n_head")
    if width % heads:
        raise UserError("n_embd must be a multiple of n_head", where=settings.where, value=width)
    return {
        "vocab_size": settings.integer("vocab_size"),
        "max_position_embeddings": settings.integer("n_positions", "n_ctx"),
        "num_hidden_layers": settings.integer("n_layer"),
        "hidden_size": width,
        "attention": {
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "head_dim": width // heads,
            "attention_bias": True,
        },
        "mlp": {
            "kind": "plain",
            "intermediate_size": settings.integer("n_inner") if settings.get("n_inner") else 4 * width,
            "hidden_act": _GELU[settings.get("activation_function")],
        },
        "norm": {"kind": "layer", "eps": settings.number("layer_norm_epsilon")},
        "positions": {"kind": "learned"},
        "initial": {"kind": "scaled-normal"},
        "tie_word_embeddings": settings.flag("tie_word_embeddings"),
    }


def _mixtral(settings: Settings) -> dict[str, Any]:
    values = decoder(settings)
    values["mlp"] = {
        "kind": "moe",
        "num_experts": settings.integer("num_local_experts", "num_experts"),
        "num_experts_per_tok": settings.integer("num_experts_per_tok"),
        "moe_intermediate_size": settings.integer("intermediate_size"),
        "router": {"kind": "softmax"},
    }
    return values


def _qwen3_moe(settings: Settings) -> dict[str, Any]:
    settings.require("decoder_sparse_step", 1)
    dense = settings.get("mlp_only_layers") or []
    if dense != list(range(len(dense))):
        raise UserError(
            "mlp_only_layers: only the first blocks may be dense", where=settings.where, value=dense
        )
    values = _qwen3(settings)
    values["mlp"] = {
        "kind": "moe",
        "num_experts": settings.integer("num_experts", "num_local_experts"),
        "num_experts_per_tok": settings.integer("num_experts_per_tok"),
        "moe_intermediate_size": settings.integer("moe_intermediate_size"),
        "first_k_dense_replace": len(dense),
        "intermediate_size": settings.integer("intermediate_size") if dense else None,
        "router": {"kind": "softmax", "norm_topk_prob": settings.flag("norm_topk_prob")},
    }
    return values


def _shared_experts(settings: Settings, router: dict[str, Any]) -> dict[str, Any]:
    """The mixture of DeepSeekMoE and what came of it."""
    settings.require("moe_layer_freq", 1)
    dense = settings.count("first_k_dense_replace")
    return {
        "kind": "moe",
        "num_experts": settings.integer("n_routed_experts", "num_local_experts"),
        "num_experts_per_tok": settings.integer("num_experts_per_tok"),
        "moe_intermediate_size": settings.integer("moe_intermediate_size"),
        "n_shared_experts": settings.count("n_shared_experts"),
        "first_k_dense_replace": dense,
        "intermediate_size": settings.integer("intermediate_size") if dense else None,
        "router": {**router, "routed_scaling_factor": settings.number("routed_scaling_factor")},
    }


def _deepseek(settings: Settings) -> dict[str, Any]:
    settings.require("scoring_func", "softmax")
    router = {
        "kind": "softmax",
        "router_aux_loss_coef": settings.number("aux_loss_alpha"),
        "norm_topk_prob": settings.flag("norm_topk_prob"),
    }
    return decoder(settings) | {"mlp": _shared_experts(settings, router)}


def _dots1(settings: Settings) -> dict[str, Any]:
    if settings.get("n_group") != settings.get("topk_group"):
        raise UserError(
            "n_group: choosing groups of experts is not supported",
            where=settings.where,
            value=settings.get("n_group"),
        )
    if not settings.flag("norm_topk_prob"):
        raise UserError(
            "norm_topk_prob: scores of a sigmoid are supported only normalised",
            where=settings.where,
            value=False,
        )
    return _qwen3(settings) | {"mlp": _shared_experts(settings, {"kind": "sigmoid"})}


def _baichuan(settings: Settings) -> dict[str, Any]:
    values = decoder(settings)
    # The 13B models have no table of positions to size, and 40 blocks; llama.cpp decides by the latter.
    if settings.get("max_position_embeddings") is None or values["num_hidden_layers"] == 40:
        values["positions"] = {"kind": "alibi"}
    return values


_BUILDERS: dict[str, Callable[[Settings], dict[str, Any]]] = {
    "LlamaForCausalLM": variants.llama, "MistralForCausalLM": decoder, "Qwen2ForCausalLM": _qwen2,
    "Qwen3ForCausalLM": _qwen3, "GPT2LMHeadModel": _gpt2, "MixtralForCausalLM": _mixtral,
    "Qwen3MoeForCausalLM": _qwen3_moe, "Dots1ForCausalLM": _dots1, "DeepseekForCausalLM": _deepseek,
    "Olmo2ForCausalLM": _olmo2, "GlmForCausalLM": variants.glm, "Glm4ForCausalLM": variants.glm4,
    "Gemma3ForCausalLM": variants.gemma3,
    "BaiChuanForCausalLM": decoder, "BaichuanForCausalLM": _baichuan, "Ernie4_5ForCausalLM": variants.ernie,
    "HunYuanDenseV1ForCausalLM": variants.hunyuan, "MiniCPMForCausalLM": variants.minicpm,
    "GraniteForCausalLM": variants.granite, "InternLM2ForCausalLM": variants.internlm2,
    "SmolLM3ForCausalLM": variants.smollm3, "MiniMindForCausalLM": variants.minimind,
}  # fmt: skip
