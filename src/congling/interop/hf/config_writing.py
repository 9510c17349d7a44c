"""``config.json`` of Hugging Face for a model of ours. Without torch."""

from collections.abc import Mapping
from typing import Any

from congling.interop.hf import position_writing
from congling.interop.hf.architecture import MODEL_TYPES, architecture
from congling.interop.options import COMPUTED
from congling.model.config import ModelConfig, RotaryConfig
from congling.model.mlp_config import PlainMLPConfig


def config_json(config: ModelConfig, tokens: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """``config.json`` for this model; ``tokens`` are ``bos_token_id`` and its like, ``dtype`` as in torch.

    Rotary settings are written under the keys that transformers 4 knows too.

    Raises:
        UserError: as ``architecture``.
    """
    name = architecture(config)
    values = {
        "architectures": [name],
        "model_type": MODEL_TYPES[name],
        **tokens,
        "torch_dtype": dtype,
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tie_word_embeddings,
        "use_cache": True,
    }
    if name == "GPT2LMHeadModel":
        return values | _gpt2(config)
    attention = config.attention
    values |= {
        "max_position_embeddings": position_writing.context(config),
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": attention.num_attention_heads,
        "num_key_value_heads": attention.num_key_value_heads,
        "head_dim": attention.head_dim,
        "intermediate_size": config.mlp_size,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm.eps,
        "attention_bias": attention.attention_bias,
        "attention_dropout": 0.0,
        "sliding_window": None,
        **position_writing.positions(config, "partial_rotary_factor" in COMPUTED.get(name, ())),
    }
    return values | _experts(config, name) | _options(config, name)


def _options(config: ModelConfig, name: str) -> dict[str, Any]:
    """The keys of one class alone. Granite's own scale of the scores is 1, whatever the heads."""
    attention, values = config.attention, {}
    if "mlp_bias" in COMPUTED.get(name, ()):
        values["mlp_bias"] = config.mlp.kind == "gated" and config.mlp.mlp_bias
    if name == "GraniteForCausalLM":
        return values | {
            "embedding_multiplier": config.embedding_multiplier,
            "residual_multiplier": config.residual_multiplier,
            "logits_scaling": config.logits_scaling,
            "attention_multiplier": attention.attention_multiplier or attention.head_dim**-0.5,
        }
    if name == "Gemma3ForCausalLM" and isinstance(config.positions, RotaryConfig):
        return {
            "hidden_activation": "gelu_pytorch_tanh",
            "hidden_act": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": attention.head_dim,
            "sliding_window": attention.sliding_window,
            "layer_types": [config.layer_type(layer) for layer in range(config.num_hidden_layers)],
            "rope_local_base_freq": config.positions.rope_local_base_freq or config.positions.rope_theta,
            "final_logit_softcapping": None,
            "attn_logit_softcapping": None,
        }
    if name == "SmolLM3ForCausalLM":
        return values | {
            "no_rope_layers": [int(config.rotated(layer)) for layer in range(config.num_hidden_layers)],
            "use_sliding_window": False,
        }
    return values


def _gpt2(config: ModelConfig) -> dict[str, Any]:
    assert isinstance(config.mlp, PlainMLPConfig)
    return {
        "n_positions": config.max_position_embeddings,
        "n_embd": config.hidden_size,
        "n_layer": config.num_hidden_layers,
        "n_head": config.attention.num_attention_heads,
        "n_inner": config.mlp.intermediate_size,
        "activation_function": config.mlp.hidden_act,
        "layer_norm_epsilon": config.norm.eps,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": 0.0,
    }


def _experts(config: ModelConfig, name: str) -> dict[str, Any]:
    """The keys of a mixture of experts; none for a dense model."""
    mlp = config.mlp
    if mlp.kind != "moe":
        return {}
    values: dict[str, Any] = {
        "num_experts_per_tok": mlp.num_experts_per_tok,
        "moe_intermediate_size": mlp.moe_intermediate_size,
    }
    dense = {"intermediate_size": mlp.intermediate_size or mlp.moe_intermediate_size}
    if mlp.router.kind == "sigmoid":
        return (
            values
            | dense
            | {
                "n_routed_experts": mlp.num_experts,
                "n_shared_experts": max(1, mlp.n_shared_experts),
                "norm_topk_prob": True,
                "first_k_dense_replace": mlp.first_k_dense_replace,
                "routed_scaling_factor": mlp.router.routed_scaling_factor,
                "n_group": 1,
                "topk_group": 1,
            }
        )
    values["router_aux_loss_coef"] = mlp.router.router_aux_loss_coef
    if name == "MixtralForCausalLM":
        del values["moe_intermediate_size"]
        return values | {"num_local_experts": mlp.num_experts}
    return (
        values
        | dense
        | {
            "num_experts": mlp.num_experts,
            "norm_topk_prob": mlp.router.norm_topk_prob,
            "decoder_sparse_step": 1,
            "mlp_only_layers": list(range(mlp.first_k_dense_replace)),
        }
    )
