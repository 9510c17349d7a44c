"""Which Hugging Face class computes a model of ours. Without torch.

A class is described by what it needs of a model; the first one whose needs are all met is taken.
"""

from collections.abc import Callable

from congling.core.errors import UserError
from congling.interop.hf.position_writing import obstacle
from congling.interop.obstacles import Unrepresentable
from congling.interop.options import scaled_embedding, uncomputed
from congling.model.config import ModelConfig

Need = tuple[str, Callable[[ModelConfig], bool]]
"""What a class needs, in words and as a test."""


def _router(config: ModelConfig) -> str:
    return config.mlp.router.kind if config.mlp.kind == "moe" else "none"


def _shape_of_gpt2(config: ModelConfig) -> bool:
    attention = config.attention
    return (
        attention.num_attention_heads == attention.num_key_value_heads
        and attention.num_attention_heads * attention.head_dim == config.hidden_size
    )


_PRE_NORM: Need = (
    "norms before the sublayers alone (norm_placement = pre)",
    lambda config: config.norm_placement == "pre",
)
_NORMS_OF_HEADS: Need = (
    "queries and keys normalised head by head",
    lambda config: not config.attention.qk_norm or config.attention.qk_norm_over == "head",
)
_ROPE: Need = ("rotary positions", lambda config: config.positions.kind == "rope")
_RMS: Need = ("RMS normalisation", lambda config: config.norm.kind == "rms")
_GATED: Need = ("a gated MLP", lambda config: config.mlp.kind == "gated")
_COMMON = (_PRE_NORM, _NORMS_OF_HEADS)
_DECODER = (*_COMMON, _ROPE, _RMS)
_QK_NORM: Need = ("normalised queries and keys", lambda config: config.attention.qk_norm)
_NO_QK_NORM: Need = ("queries and keys that are not normalised", lambda config: not config.attention.qk_norm)
_ALL_OR_NONE: Need = (
    "biases in all four attention projections or in none",
    lambda config: config.attention.attention_bias == config.attention.has_output_bias,
)
_NO_BIAS: Need = (
    "attention without biases",
    lambda config: not config.attention.attention_bias and not config.attention.has_output_bias,
)
_NO_OUTPUT_BIAS: Need = (
    "attention without a bias on its output",
    lambda config: not config.attention.has_output_bias,
)
_EVEN: Need = (
    "a width that is a multiple of the heads",
    lambda c: c.hidden_size % c.attention.num_attention_heads == 0,
)
_SOFTMAX: Need = ("experts behind a softmax router", lambda config: _router(config) == "softmax")
_NOTHING_SHARED: Need = (
    "no shared experts",
    lambda config: config.mlp.kind == "moe" and config.mlp.n_shared_experts == 0,
)
_UNSCALED: Need = (
    "routed experts whose sum is not scaled",
    lambda config: config.mlp.kind == "moe" and config.mlp.router.routed_scaling_factor == 1,
)

_OF_ITS_OWN: dict[str, tuple[Need, ...]] = {
    "LlamaForCausalLM": (*_DECODER, _GATED, _NO_QK_NORM, _ALL_OR_NONE, _EVEN),
    "MistralForCausalLM": (*_DECODER, _GATED, _NO_QK_NORM, _NO_BIAS),
    "Qwen2ForCausalLM": (
        *_DECODER, _GATED, _NO_QK_NORM,
        ("biases on queries, keys and values alone",
         lambda config: config.attention.attention_bias and not config.attention.has_output_bias),
    ),
    "Qwen3ForCausalLM": (*_DECODER, _GATED, _QK_NORM, _ALL_OR_NONE),
    "GPT2LMHeadModel": (
        *_COMMON,
        ("learned positions", lambda config: config.positions.kind == "learned"),
        ("layer normalisation", lambda config: config.norm.kind == "layer"),
        ("a plain MLP", lambda config: config.mlp.kind == "plain"),
        ("biases in all attention projections",
         lambda config: config.attention.attention_bias and config.attention.has_output_bias),
        _NO_QK_NORM,
        ("as many key/value heads as heads, together as wide as the model", _shape_of_gpt2),
    ),
    "MixtralForCausalLM": (
        *_DECODER, _SOFTMAX, _NO_QK_NORM, _NO_BIAS, _NOTHING_SHARED, _UNSCALED,
        ("experts in every block",
         lambda config: config.mlp.kind == "moe" and config.mlp.first_k_dense_replace == 0),
        ("shares of the experts that are normalised",
         lambda config: config.mlp.kind == "moe" and getattr(config.mlp.router, "norm_topk_prob", True)),
    ),
    "Qwen3MoeForCausalLM": (*_DECODER, _SOFTMAX, _QK_NORM, _ALL_OR_NONE, _NOTHING_SHARED, _UNSCALED),
    "Dots1ForCausalLM": (
        *_DECODER, _QK_NORM, _ALL_OR_NONE,
        ("experts behind a sigmoid router", lambda config: _router(config) == "sigmoid"),
        ("at least two experts", lambda config: config.mlp.kind == "moe" and config.mlp.num_experts > 1),
    ),
    "Olmo2ForCausalLM": (
        _ROPE, _RMS, _GATED, _QK_NORM, _ALL_OR_NONE,
        ("norms behind the sublayers alone (norm_placement = post)", lambda c: c.norm_placement == "post"),
        ("queries and keys normalised over all heads together",
         lambda config: config.attention.qk_norm_over == "projection"),
    ),
    "GlmForCausalLM": (_PRE_NORM, _ROPE, _RMS, _GATED, _NO_QK_NORM, _NO_OUTPUT_BIAS),
    "Glm4ForCausalLM": (
        _ROPE, _RMS, _GATED, _NO_QK_NORM, _NO_OUTPUT_BIAS,
        ("norms before and behind the sublayers (norm_placement = sandwich)",
         lambda config: config.norm_placement == "sandwich"),
    ),
    "Gemma3ForCausalLM": (
        _ROPE, _RMS, _NORMS_OF_HEADS, _QK_NORM, _ALL_OR_NONE, _EVEN, _GATED,
        ("norms before and behind the sublayers (norm_placement = sandwich)",
         lambda config: config.norm_placement == "sandwich"),
        ("embeddings multiplied by the root of the width, and nothing else multiplied", scaled_embedding),
        ("a sliding window", lambda config: config.attention.sliding_window is not None),
        ("a ramp of yarn that is truncated",
         lambda c: c.positions.kind != "rope" or getattr(c.positions.rope_scaling, "truncate", True)),
        ("gated MLPs with GELU", lambda c: getattr(c.mlp, "hidden_act", "") == "gelu_pytorch_tanh"),
    ),
    "GraniteForCausalLM": (*_DECODER, _GATED, _NO_QK_NORM, _ALL_OR_NONE, _EVEN),
    "SmolLM3ForCausalLM": (*_DECODER, _GATED, _NO_QK_NORM, _ALL_OR_NONE, _EVEN),
    "HunYuanDenseV1ForCausalLM": (
        *_DECODER, _GATED, _QK_NORM, _ALL_OR_NONE,
        ("queries and keys normalised after they are rotated",
         lambda config: config.attention.qk_norm_after_rope),
    ),
}  # fmt: skip


def _without(name: str) -> tuple[Need, ...]:
    """That a model has none of the options that a class does not compute."""
    return tuple(
        (f"a model without {option.what}", lambda config, used=option.used: not used(config))
        for option in uncomputed(name)
    )


NEEDS: dict[str, tuple[Need, ...]] = {name: needs + _without(name) for name, needs in _OF_ITS_OWN.items()}
MODEL_TYPES = {
    "LlamaForCausalLM": "llama", "MistralForCausalLM": "mistral", "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3", "GPT2LMHeadModel": "gpt2", "MixtralForCausalLM": "mixtral",
    "Qwen3MoeForCausalLM": "qwen3_moe", "Dots1ForCausalLM": "dots1", "Olmo2ForCausalLM": "olmo2",
    "Gemma3ForCausalLM": "gemma3_text",
    "GlmForCausalLM": "glm", "Glm4ForCausalLM": "glm4", "GraniteForCausalLM": "granite",
    "SmolLM3ForCausalLM": "smollm3", "HunYuanDenseV1ForCausalLM": "hunyuan_v1_dense",
}  # fmt: skip
_MIXTURES = {"MixtralForCausalLM", "Qwen3MoeForCausalLM", "Dots1ForCausalLM"}


def misfit(config: ModelConfig) -> tuple[str, list[str]] | None:
    """The class that comes closest and what it needs besides; ``None`` when one computes the very model."""
    lacking = {
        name: [words for words, met in needs if not met(config)]
        for name, needs in NEEDS.items()
        if (name in _MIXTURES) == (config.mlp.kind == "moe")
    }
    nearest = min(lacking, key=lambda name: len(lacking[name]))
    return (nearest, lacking[nearest]) if lacking[nearest] else None


def architecture(config: ModelConfig) -> str:
    """The class of transformers that computes this model.

    Raises:
        UserError: no class does; the message says what the nearest one needs.
    """
    if (found := obstacle(config)) is not None:
        raise Unrepresentable(found)
    if (lacking := misfit(config)) is not None:
        nearest, needs = lacking
        raise UserError(
            "no class of transformers computes this model without code of its own: the nearest, "
            f"{nearest}, needs {', '.join(needs)}",
            hint="convert it to GGUF, or train a model of a family that fits",
        )
    return next(name for name, needs in NEEDS.items() if all(met(config) for _, met in needs))
