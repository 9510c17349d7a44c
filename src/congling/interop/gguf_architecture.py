"""Which architecture of llama.cpp computes exactly a model of ours. Without torch."""

from congling.interop.obstacles import Obstacle, Unrepresentable
from congling.interop.options import COMPUTED, OPTIONS, scaled_embedding, uncomputed, used, window_period
from congling.model.config import ModelConfig
from congling.model.mlp_config import MoEConfig

_MOST_LAYERS = 512


def gguf_architecture(config: ModelConfig) -> str:
    """The architecture of llama.cpp that computes exactly this model.

    Raises:
        Unrepresentable: there is none.
    """
    name = _architecture(config)
    if config.positions.kind == "rope":
        from congling.interop.gguf.stretch_writing import stretch, within  # numpy is slow to import

        stretch(within(config), config.positions.rotary_dim(config.attention.head_dim), name)
    return name


def _architecture(config: ModelConfig) -> str:
    if config.num_hidden_layers > _MOST_LAYERS:
        raise Unrepresentable(Obstacle(f"llama.cpp runs at most {_MOST_LAYERS} layers", "use fewer layers"))
    if config.norm_placement != "pre" or (
        config.attention.qk_norm and config.attention.qk_norm_over == "projection"
    ):
        return _with_post_norms(config)
    if used(config):
        return _with_options(config)
    if config.norm.kind == "layer" or config.mlp.kind == "plain" or config.positions.kind == "learned":
        return _with_layer_norm(config)
    if config.attention.qk_norm and config.attention.has_output_bias:
        raise Unrepresentable(
            Obstacle(
                "llama.cpp has no architecture with both a bias on the output of attention and normalised "
                "queries and keys",
                "set attention.attention_output_bias = false, or attention.qk_norm = false",
            )
        )
    if config.positions.kind == "alibi":
        return _with_alibi(config)
    return _mixture(config, config.mlp) if isinstance(config.mlp, MoEConfig) else _dense(config)


def _with_post_norms(config: ModelConfig) -> str:
    attention, placement = config.attention, config.norm_placement
    over_all = attention.qk_norm and attention.qk_norm_over == "projection"
    plain = (
        config.norm.kind == "rms"
        and config.mlp.kind == "gated"
        and config.positions.kind == "rope"
        and not attention.has_output_bias
    )
    fitting = {
        "olmo2": placement == "post" and over_all and not attention.attention_bias and narrow(config),
        "glm4": placement == "sandwich" and not attention.qk_norm and narrow(config),
        "gemma3": placement == "sandwich" and attention.qk_norm and not over_all and _gemma3(config),
    }
    for name, fits in fitting.items():
        if plain and fits and not any(option.used(config) for option in uncomputed(name)):
            return name
    raise Unrepresentable(
        Obstacle(
            "llama.cpp has norms behind the sublayers alone only with queries and keys normalised over all "
            "heads and no biases (OLMo 2), before and behind only without such norms (GLM-4) or with all "
            "else of Gemma 3 (windows in all but every n-th block, GELU, scaled embeddings); all with rms "
            "norm, a gated MLP, rotary positions, and no bias on the output of attention",
            "take the whole family olmo2 or glm4, or norm_placement = pre and attention.qk_norm_over = head",
        )
    )


def _gemma3(config: ModelConfig) -> bool:
    """Whether the rest is Gemma 3's; one of 62 layers llama.cpp takes for the 27B, which scales otherwise."""
    return (
        config.attention.sliding_window is not None
        and window_period(config) is not None
        and "hidden_act" in used(config)
        and scaled_embedding(config)
        and not config.attention.attention_bias
        and config.num_hidden_layers != 62
    )


def _with_options(config: ModelConfig) -> str:
    """Llamas with one option each; Granite holds biases of the MLP besides its multipliers."""
    attention, options = config.attention, used(config)
    if "exact_gelu" in options:
        raise Unrepresentable(
            Obstacle(
                f"llama.cpp has no {OPTIONS['exact_gelu'].what} in plain MLPs, only its tanh form",
                "set mlp.hidden_act = gelu_new, or convert to a Hugging Face folder, which holds it; a "
                "checkpoint imported with --activation gelu_new goes there with slightly other logits",
            )
        )
    if config.norm.kind == "layer" and options <= COMPUTED["stablelm"]:
        return _with_layer_norm(config)
    decoder = config.norm.kind == "rms" and config.mlp.kind == "gated" and config.positions.kind == "rope"
    bare = not attention.has_output_bias
    fitting = {
        "llama": not attention.qk_norm,
        "granite": not attention.qk_norm,
        "smollm3": not attention.qk_norm and _fourth_layers_rest(config) and bare,
        "hunyuan-dense": bare,
        "chatglm": not attention.qk_norm and bare and narrow(config),
    }
    for name, fits in fitting.items():
        if decoder and fits and not any(option.used(config) for option in uncomputed(name)):
            return name
    raise Unrepresentable(
        Obstacle(
            f"llama.cpp has {' and '.join(OPTIONS[name].what for name in sorted(options))} only one by one, "
            "in dense models with rms norm, a gated MLP and rotary positions: multipliers (Granite), every "
            "fourth block unrotated (SmolLM3), a part of each head rotated (ChatGLM), all without normalised "
            "queries, or queries normalised after rotation (HunYuan); but for Granite without output biases. "
            "Biases in gated MLPs go with multipliers or alone",
            f"use {', '.join(OPTIONS[name].off for name in sorted(options))}",
        )
    )


def _fourth_layers_rest(config: ModelConfig) -> bool:
    """Whether every fourth block is the one that rotates nothing."""
    return all(config.rotated(layer) == bool((layer + 1) % 4) for layer in range(config.num_hidden_layers))


def _with_layer_norm(config: ModelConfig) -> str:
    attention, positions = config.attention, config.positions.kind
    layer = config.norm.kind == "layer" and not attention.qk_norm
    layer &= narrow(config)
    if layer and config.mlp.kind == "plain" and attention.attention_bias and attention.has_output_bias:
        if positions != "alibi" and not used(config):
            return "gpt2" if positions == "learned" else "starcoder2"
    elif layer and config.mlp.kind == "gated" and positions == "rope" and not attention.has_output_bias:
        return "stablelm"
    raise Unrepresentable(
        Obstacle(
            "llama.cpp has layer norm with plain MLPs and biases all over (GPT-2, or StarCoder2 with rotary "
            "positions) or with gated MLPs and rotary positions (StableLM), without normalised queries",
            "take the whole family gpt2, or rms norm, a gated MLP and rotary positions (llama)",
        )
    )


def _with_alibi(config: ModelConfig) -> str:
    plain = config.mlp.kind == "gated" and not (
        config.attention.qk_norm or config.attention.attention_bias or config.attention.has_output_bias
    )
    if not plain:
        raise Unrepresentable(
            Obstacle(
                "llama.cpp has ALiBi only for dense models without biases and without normalised queries",
                "set attention.attention_bias = false and attention.qk_norm = false, take a gated MLP, or "
                "use positions = rope",
            )
        )
    return "baichuan" if config.num_hidden_layers == 40 and narrow(config) else "refact"


def _dense(config: ModelConfig) -> str:
    attention = config.attention
    if attention.qk_norm:
        return "qwen3"
    biased = attention.attention_bias and not attention.has_output_bias
    if biased and not _wants_factors(config) and narrow(config):
        return "qwen2"
    return "llama"


def _mixture(config: ModelConfig, mlp: MoEConfig) -> str:
    attention, router = config.attention, mlp.router
    simple = (
        router.kind == "softmax"
        and router.norm_topk_prob
        and router.routed_scaling_factor == 1
        and not mlp.n_shared_experts
        and not mlp.first_k_dense_replace
    )
    if simple and not attention.qk_norm:
        return "llama"
    if attention.has_output_bias:
        raise Unrepresentable(
            Obstacle(
                "llama.cpp has no such mixture of experts with a bias on the output of attention",
                "set attention.attention_output_bias = false",
            )
        )
    if simple:
        return "glm4moe" if attention.attention_bias else "qwen3moe"
    mean = router.kind == "softmax" and not router.norm_topk_prob and not attention.qk_norm
    if mean and mlp.n_shared_experts and not attention.attention_bias and narrow(config):
        return "deepseek"
    whole = (
        mlp.n_shared_experts
        and attention.qk_norm
        and attention.num_attention_heads == attention.num_key_value_heads
        and not config.tie_word_embeddings
    )
    return "dots1" if whole else "glm4moe"


def narrow(config: ModelConfig) -> bool:
    """Whether the heads together are as wide as the model, which some architectures take for granted."""
    return config.attention.num_attention_heads * config.attention.head_dim == config.hidden_size


def _wants_factors(config: ModelConfig) -> bool:
    rotary = config.positions
    turned = rotary.rotary_dim(config.attention.head_dim) if rotary.kind == "rope" else 0
    from congling.interop.gguf.stretch_writing import needs_factors, within

    return rotary.kind == "rope" and needs_factors(within(config), turned)
