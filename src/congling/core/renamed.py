"""Keys that had other names before: a person is told the name of now, recorded files are read by this table.

Whoever renames a key adds it here, under the name of its class, and nowhere else.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Renamed(NamedTuple):
    """What a key is called now, and its values where these have other names as well."""

    name: str
    values: Mapping[Any, Any] = {}


_EXPERTS = ("qwen3-moe", "deepseek-moe", "deepseek-moe-v1")


def _hidden(table: Mapping[str, Any]) -> str:
    """The size was one key for a dense MLP and for an expert."""
    return "moe_intermediate_size" if table.get("family") in _EXPERTS else "intermediate_size"


Name = str | Renamed | Callable[[Mapping[str, Any]], str]

_ATTENTION = {
    "heads": "num_attention_heads", "kv_heads": "num_key_value_heads", "head_width": "head_dim",
    "bias": "attention_bias", "output_bias": "attention_output_bias",
}  # fmt: skip
_SIZES = {
    "layers": "num_hidden_layers", "width": "hidden_size", "context": "max_position_embeddings",
    "tied": "tie_word_embeddings",
}  # fmt: skip
_MUON_SIZES = {"spectral": "original", "rms": "match_rms_adamw"}
_AVERAGES = {"sequence": "grpo", "token": "dapo", "constant": "dr_grpo"}

RENAMED: Mapping[str, Mapping[str, Name]] = {
    "ModelConfig": _SIZES,
    "ModelRecipe": {
        **_SIZES, "heads": "num_attention_heads", "kv_heads": "num_key_value_heads", "hidden": _hidden,
    },
    "ModelRecipe.options": {
        "head_width": "head_dim", "rope_base": "rope_theta", "experts": "num_experts",
        "active": "num_experts_per_tok", "balance": "router_aux_loss_coef", "shared": "n_shared_experts",
        "dense_layers": "first_k_dense_replace", "dense_hidden": "intermediate_size",
        "scale": "routed_scaling_factor", "bias_rate": "bias_update_rate",
    },
    "AttentionConfig": _ATTENTION,
    "GatedMLPConfig": {"hidden": "intermediate_size", "bias": "mlp_bias"},
    "PlainMLPConfig": {"hidden": "intermediate_size"},
    "MoEConfig": {
        "experts": "num_experts", "active": "num_experts_per_tok", "hidden": "moe_intermediate_size",
        "shared": "n_shared_experts", "dense_layers": "first_k_dense_replace",
        "dense_hidden": "intermediate_size",
    },
    "SoftmaxRouterConfig": {
        "balance": "router_aux_loss_coef", "normalise": "norm_topk_prob", "scale": "routed_scaling_factor",
    },
    "SigmoidRouterConfig": {"scale": "routed_scaling_factor", "bias_rate": "bias_update_rate"},
    "RMSNormConfig": {"epsilon": "eps"},
    "LayerNormConfig": {"epsilon": "eps"},
    "RotaryConfig": {"base": "rope_theta", "scaling": "rope_scaling"},
    "LinearScaling": {"kind": "rope_type"},
    "Llama3Scaling": {
        "kind": "rope_type", "low_frequency_factor": "low_freq_factor",
        "high_frequency_factor": "high_freq_factor", "original_context": "original_max_position_embeddings",
    },
    "ScaledNormalConfig": {"std": "initializer_range"},
    "Sizes": {
        "layers": "num_hidden_layers", "width": "hidden_size", "hidden": "intermediate_size",
        "heads": "num_attention_heads", "experts": "num_experts",
    },
    "TrainConfig": {
        "steps": "max_steps", "context": "max_length", "rows": "per_device_train_batch_size",
        "accumulation": "gradient_accumulation_steps", "clip": "max_grad_norm", "ema": "ema_decay",
        "split_pieces": "token_split_prob", "noise": "token_noise_prob", "compile": "torch_compile",
        "checkpointing": "gradient_checkpointing", "save_every": "save_steps", "keep": "save_total_limit",
        "evaluate_every": "eval_steps", "evaluate_tokens": "eval_tokens", "choose": "metric_for_best_model",
        "patience": "early_stopping_patience", "sample_every": "sample_steps", "log_every": "logging_steps",
        "auto_micro_batch": "auto_find_batch_size",
        "hand_on": Renamed("load_best_model_at_end", {"best": True, "last": False}),
    },
    "AdamWConfig": {"rate": "learning_rate", "epsilon": "eps"},
    "MuonConfig": {
        "rate": "learning_rate", "embedding_rate": "embedding_learning_rate",
        "head_rate": "head_learning_rate", "scalar_rate": "scalar_learning_rate",
        "momentum_warmup": "momentum_warmup_steps", "iterations": "ns_steps",
        "table_decay": "embedding_weight_decay", "epsilon": "eps",
        "scale": Renamed("adjust_lr_fn", _MUON_SIZES),
    },
    "WSDConfig": {
        "warmup": "warmup_ratio", "decay": "decay_ratio", "shape": "decay_type", "floor": "min_lr_ratio",
    },
    "CosineConfig": {"warmup": "warmup_ratio", "floor": "min_lr_ratio"},
    "AdapterConfig": {
        "rank": "r", "ranks": "rank_pattern", "alpha": "lora_alpha", "rank_stabilised": "use_rslora",
        "dora": "use_dora", "dropout": "lora_dropout", "targets": "target_modules",
        "whole": "modules_to_save", "base": "base_quantization",
    },
    "TuningRecipe": {"epochs": "num_train_epochs"},
    "SFTRecipe": {"neftune": "neftune_noise_alpha"},
    "SFTConfig": {"neftune": "neftune_noise_alpha"},
    "RewardConfig": {"centre": "center_rewards_coefficient"},
    "PreferenceConfig": {
        "loss": "loss_type", "margin": "simpo_gamma", "chosen": "rpo_alpha",
        "desirable": "desirable_weight", "undesirable": "undesirable_weight",
    },
    "RolloutConfig": {
        "prompts": "prompts_per_step", "group": "num_generations", "new_tokens": "max_completion_length",
        "updates": "num_iterations", "unended": "truncated_reward",
    },
    "PolicyConfig": {"clip": "epsilon", "clip_above": "epsilon_high", "entropy": "entropy_coef"},
    "GRPOConfig": {
        "average": Renamed("loss_type", _AVERAGES), "scale": "scale_rewards",
        "drop_even": "dynamic_sampling", "overlong": "soft_punish_cache",
    },
    "PPOConfig": {
        "trace": "lam", "value": "vf_coef", "clip_value": "cliprange_value", "whiten": "whiten_advantages",
    },
    "DistillConfig": {"on_policy": "lmbda", "prefix": "prefix_tokens"},
}  # fmt: skip
"""New name by class and old name. A class takes over the entries of those it extends."""

OPTIONS: Mapping[str, Mapping[str, str]] = {
    "pairs": {"--new-tokens": "--max-new-tokens"},
    "prune": {
        "--keep-layers": "--num-hidden-layers", "--hidden": "--intermediate-size",
        "--heads": "--num-attention-heads", "--width": "--hidden-size", "--experts": "--num-experts",
    },
}  # fmt: skip
"""New name of an option by verb and old name."""


def new_key(classes: tuple[str, ...], key: str, table: Mapping[str, Any]) -> Renamed | None:
    """What a key of a table is called now.

    Args:
        classes: the table's configuration class and those it extends, by name.
        key: the key as it is written.
        table: all that is written beside it.
    """
    for name in classes:
        if (found := RENAMED.get(name, {}).get(key)) is not None:
            if isinstance(found, Renamed):
                return found
            return Renamed(found if isinstance(found, str) else found(table))
    return None


def with_new_keys(classes: tuple[str, ...], table: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded table by the names of now; tables within it are left as they are.

    >>> with_new_keys(("TrainConfig",), {"clip": 1.0, "hand_on": "last"})
    {'max_grad_norm': 1.0, 'load_best_model_at_end': False}
    """
    found: dict[str, Any] = {}
    for key, value in table.items():
        renamed = new_key(classes, key, table)
        if renamed is None:
            found[key] = value
        elif renamed.name not in table:
            known = value if isinstance(value, (str, bool)) else None
            found[renamed.name] = renamed.values.get(known, value)
    return found
