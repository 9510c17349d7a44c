"""A model's configuration as keys of a GGUF file. Without torch."""

from congling.interop.gguf.architectures import MIXTURES, MULTIPLIED, SCALED_EXPERTS, SIGMOID, SOFTMAX
from congling.interop.gguf.fields import Field
from congling.interop.gguf.stretch import OURS, Stretch, in_32_bits, told
from congling.interop.gguf.stretch_reading import understood
from congling.interop.gguf.stretch_writing import stretch, within
from congling.interop.options import window_period
from congling.model.config import ModelConfig, RotaryConfig
from congling.model.mlp_config import MoEConfig


def config_fields(config: ModelConfig, architecture: str) -> dict[str, Field]:
    """The keys that describe a model to llama.cpp, under the prefix of its architecture."""
    attention, hidden = config.attention, config.mlp_size
    if isinstance(config.mlp, MoEConfig) and config.mlp.intermediate_size is not None:
        hidden = config.mlp.intermediate_size
    keys: dict[str, Field] = {
        "vocab_size": Field("u32", config.vocab_size),
        "context_length": Field("u32", config.max_position_embeddings),
        "embedding_length": Field("u32", config.hidden_size),
        "block_count": Field("u32", config.num_hidden_layers),
        "feed_forward_length": Field("u32", hidden),
        "attention.head_count": Field("u32", attention.num_attention_heads),
        "attention.head_count_kv": Field("u32", attention.num_key_value_heads),
    }
    epsilon = "layer_norm_epsilon" if config.norm.kind == "layer" else "layer_norm_rms_epsilon"
    keys[f"attention.{epsilon}"] = Field("f32", config.norm.eps)
    if attention.num_attention_heads * attention.head_dim != config.hidden_size:
        keys["attention.key_length"] = Field("u32", attention.head_dim)
        keys["attention.value_length"] = Field("u32", attention.head_dim)
    if config.positions.kind == "rope":
        keys["rope.dimension_count"] = Field("u32", config.positions.rotary_dim(attention.head_dim))
        keys["rope.freq_base"] = Field("f32", config.positions.rope_theta)
        keys |= stretched(config, architecture).fields()
    if isinstance(config.mlp, MoEConfig):
        keys |= _mixture_fields(config.mlp, architecture)
    if architecture == "gemma3":
        keys |= _window_fields(config)
    if architecture in MULTIPLIED:
        keys["embedding_scale"] = Field("f32", config.embedding_multiplier)
        keys["residual_scale"] = Field("f32", config.residual_multiplier)
        keys["logit_scale"] = Field("f32", config.logits_scaling)
        if attention.attention_multiplier is not None:
            keys["attention.scale"] = Field("f32", attention.attention_multiplier)
    return {f"{architecture}.{key}": field for key, field in keys.items()} | _told_again(config, architecture)


def stretched(config: ModelConfig, architecture: str) -> Stretch:
    """What the file says of stretched positions, none where they are not rotary.

    Raises:
        Unrepresentable: llama.cpp cannot be told of them.
    """
    if config.positions.kind != "rope":
        return Stretch()
    return stretch(within(config), config.positions.rotary_dim(config.attention.head_dim), architecture)


def _told_again(config: ModelConfig, architecture: str) -> dict[str, Field]:
    """Base and scaling in our words, where a reader of the other keys would find other ones."""
    if config.positions.kind != "rope":
        return {}
    positions = within(config)
    turned, theta = positions.rotary_dim(config.attention.head_dim), positions.rope_theta
    seen = stretched(config, architecture).stored()
    read = understood(seen, in_32_bits(theta), turned, config.max_position_embeddings)
    if in_32_bits(theta) == theta and read == positions.rope_scaling:
        return {}
    return {OURS: Field("string", told(positions).model_dump_json(exclude_none=True))}


def _window_fields(config: ModelConfig) -> dict[str, Field]:
    assert isinstance(config.positions, RotaryConfig) and config.attention.sliding_window is not None
    return {
        "attention.sliding_window": Field("u32", config.attention.sliding_window),
        "attention.sliding_window_pattern": Field("u32", window_period(config) or 1),
        "rope.freq_base_swa": Field(
            "f32", config.positions.rope_local_base_freq or config.positions.rope_theta
        ),
    }


def _mixture_fields(mlp: MoEConfig, architecture: str) -> dict[str, Field]:
    keys = {
        "expert_count": Field("u32", mlp.num_experts),
        "expert_used_count": Field("u32", mlp.num_experts_per_tok),
    }
    if architecture in MIXTURES:
        keys["expert_feed_forward_length"] = Field("u32", mlp.moe_intermediate_size)
    if architecture in SCALED_EXPERTS:
        keys["leading_dense_block_count"] = Field("u32", mlp.first_k_dense_replace)
        keys["expert_shared_count"] = Field("u32", max(1, mlp.n_shared_experts))
        keys["expert_weights_scale"] = Field("f32", mlp.router.routed_scaling_factor)
    if architecture in ("dots1", "glm4moe"):
        sigmoid = mlp.router.kind == "sigmoid"
        keys["expert_weights_norm"] = Field("bool", mlp.router.kind == "sigmoid" or mlp.router.norm_topk_prob)
        keys["expert_gating_func"] = Field("u32", SIGMOID if sigmoid else SOFTMAX)
    return keys
