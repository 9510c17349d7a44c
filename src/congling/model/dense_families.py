"""Families whose tokens all pass through the same MLP; see ``families.py``."""

from typing import Any, Required, TypedDict, Unpack

from congling.model.config import (
    AlibiConfig,
    AttentionConfig,
    LayerNormConfig,
    LearnedPositionsConfig,
    ModelConfig,
    RMSNormConfig,
    RotaryConfig,
    ScaledNormalConfig,
)
from congling.model.mlp_config import MLP, GatedMLPConfig, PlainMLPConfig


class Sizes(TypedDict, total=False):
    """What every family is told besides ``hidden_size`` and ``intermediate_size``, whose habits differ."""

    vocab_size: Required[int]
    max_position_embeddings: Required[int]
    num_hidden_layers: Required[int]
    num_attention_heads: int | None
    num_key_value_heads: int | None
    """Heads of keys and values; by default as many as the family shares."""
    head_dim: int | None
    dropout: float
    tie_word_embeddings: bool


def qwen3(
    *,
    hidden_size: int,
    intermediate_size: int | None = None,
    rope_theta: float = 10_000.0,
    **sizes: Unpack[Sizes],
) -> ModelConfig:
    """The default: RMSNorm, SwiGLU of 3 × hidden_size, RoPE, two query heads a key/value head, QK-norm.

    Source: Qwen3 technical report (Yang et al. 2025).
    """
    return _decoder(
        hidden_size,
        GatedMLPConfig(intermediate_size=intermediate_size or 3 * hidden_size),
        shares=2,
        qk_norm=True,
        bias=False,
        parts={"norm": RMSNormConfig(), "positions": RotaryConfig(rope_theta=rope_theta)},
        **sizes,
    )


def llama(
    *,
    hidden_size: int,
    intermediate_size: int | None = None,
    rope_theta: float = 10_000.0,
    **sizes: Unpack[Sizes],
) -> ModelConfig:
    """RMSNorm, SwiGLU of 8/3 × hidden_size rounded up, RoPE; GQA only by ``num_key_value_heads``
    (Touvron et al. 2023).
    """
    step = 256 if hidden_size % 256 == 0 else 64
    return _decoder(
        hidden_size,
        GatedMLPConfig(intermediate_size=intermediate_size or -(-8 * hidden_size // (3 * step)) * step),
        shares=1,
        qk_norm=False,
        bias=False,
        parts={"norm": RMSNormConfig(eps=1e-5), "positions": RotaryConfig(rope_theta=rope_theta)},
        **sizes,
    )


def mistral(
    *,
    hidden_size: int,
    intermediate_size: int | None = None,
    rope_theta: float = 10_000.0,
    **sizes: Unpack[Sizes],
) -> ModelConfig:
    """Llama with four query heads a key/value head and SwiGLU of 3.5 × hidden_size (Jiang et al. 2023)."""
    return _decoder(
        hidden_size,
        GatedMLPConfig(intermediate_size=intermediate_size or 7 * hidden_size // 2),
        shares=4,
        qk_norm=False,
        bias=False,
        parts={"norm": RMSNormConfig(eps=1e-5), "positions": RotaryConfig(rope_theta=rope_theta)},
        **sizes,
    )


def qwen2(
    *,
    hidden_size: int,
    intermediate_size: int | None = None,
    rope_theta: float = 10_000.0,
    **sizes: Unpack[Sizes],
) -> ModelConfig:
    """Llama with biases on queries, keys and values, two query heads a key/value head (Yang et al. 2024)."""
    dense = qwen3(
        hidden_size=hidden_size, intermediate_size=intermediate_size, rope_theta=rope_theta, **sizes
    )
    return dense.replace(attention={"qk_norm": False, "attention_bias": True, "attention_output_bias": False})


def olmo2(
    *,
    hidden_size: int,
    intermediate_size: int | None = None,
    rope_theta: float = 500_000.0,
    **sizes: Unpack[Sizes],
) -> ModelConfig:
    """Llama with norms behind the sublayers instead of before them, and on queries and keys as a whole.

    Source: 2 OLMo 2 Furious (OLMo Team 2025). Not zero-output: a norm would blow the first outputs up.
    """
    dense = llama(
        hidden_size=hidden_size, intermediate_size=intermediate_size, rope_theta=rope_theta, **sizes
    )
    return dense.replace(
        attention={"qk_norm": True, "qk_norm_over": "projection"},
        norm={"eps": 1e-6},
        norm_placement="post",
        initial=ScaledNormalConfig().model_dump(),
    )


def glm(
    *,
    hidden_size: int,
    intermediate_size: int | None = None,
    partial_rotary_factor: float = 0.5,
    **sizes: Unpack[Sizes],
) -> ModelConfig:
    """Llama with biases on queries, keys and values, rotary positions on a half of each head (GLM-4 9B)."""
    dense = qwen2(hidden_size=hidden_size, intermediate_size=intermediate_size, **sizes)
    return dense.replace(positions={"partial_rotary_factor": partial_rotary_factor}, norm={"eps": 1e-6})


def glm4(
    *,
    hidden_size: int,
    intermediate_size: int | None = None,
    partial_rotary_factor: float = 0.5,
    **sizes: Unpack[Sizes],
) -> ModelConfig:
    """GLM whose sublayers have norms before and behind them, as GLM-4-0414."""
    dense = glm(
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        partial_rotary_factor=partial_rotary_factor,
        **sizes,
    )
    return dense.replace(norm_placement="sandwich", initial=ScaledNormalConfig().model_dump())


def gemma3(
    *,
    hidden_size: int,
    intermediate_size: int | None = None,
    rope_theta: float = 1_000_000.0,
    sliding_window: int = 512,
    rope_local_base_freq: float = 10_000.0,
    **sizes: Unpack[Sizes],
) -> ModelConfig:
    """Five blocks with a sliding window to one without, norms before and behind, GeGLU (Gemma Team 2025).

    Embeddings are multiplied by the root of ``hidden_size``.
    """
    dense = qwen3(
        hidden_size=hidden_size, intermediate_size=intermediate_size, rope_theta=rope_theta, **sizes
    )
    kinds = tuple(
        "sliding_attention" if (i + 1) % 6 else "full_attention" for i in range(dense.num_hidden_layers)
    )
    return dense.replace(
        attention={"sliding_window": sliding_window, "layer_types": kinds},
        positions={"rope_local_base_freq": rope_local_base_freq},
        mlp={"hidden_act": "gelu_pytorch_tanh"},
        norm_placement="sandwich",
        embedding_multiplier=hidden_size**0.5,
        initial=ScaledNormalConfig().model_dump(),
    )


def baichuan(
    *, hidden_size: int, intermediate_size: int | None = None, **sizes: Unpack[Sizes]
) -> ModelConfig:
    """Llama with ALiBi for positions, as Baichuan 13B; the 7B model is a Llama (Yang et al. 2023)."""
    alibi = {"norm": {"eps": 1e-6}, "positions": AlibiConfig().model_dump()}
    return llama(hidden_size=hidden_size, intermediate_size=intermediate_size, **sizes).replace(**alibi)


def gpt2(*, hidden_size: int, intermediate_size: int | None = None, **sizes: Unpack[Sizes]) -> ModelConfig:
    """LayerNorm, GELU MLP of 4 × hidden_size, learned positions, biases everywhere (Radford et al. 2019)."""
    parts = {
        "norm": LayerNormConfig(),
        "positions": LearnedPositionsConfig(),
        "initial": ScaledNormalConfig(),
    }
    return _decoder(
        hidden_size,
        PlainMLPConfig(intermediate_size=intermediate_size or 4 * hidden_size),
        shares=1,
        qk_norm=False,
        bias=True,
        parts=parts,
        **sizes,
    )


def _decoder(
    hidden_size: int,
    mlp: MLP,
    *,
    vocab_size: int,
    max_position_embeddings: int,
    num_hidden_layers: int,
    num_attention_heads: int | None = None,
    num_key_value_heads: int | None = None,
    head_dim: int | None = None,
    dropout: float = 0.0,
    tie_word_embeddings: bool = True,
    shares: int,
    qk_norm: bool,
    bias: bool,
    parts: dict[str, Any],
) -> ModelConfig:
    """Sizes and a family's habits together; ``shares`` query heads use one key/value head, if they divide."""
    num_attention_heads, head_dim = _heads(hidden_size, num_attention_heads, head_dim)
    attention = AttentionConfig(
        num_attention_heads=num_attention_heads,
        num_key_value_heads=num_key_value_heads
        or (num_attention_heads if num_attention_heads % shares else num_attention_heads // shares),
        head_dim=head_dim,
        qk_norm=qk_norm,
        attention_bias=bias,
    )
    return ModelConfig(
        vocab_size=vocab_size,
        max_position_embeddings=max_position_embeddings,
        num_hidden_layers=num_hidden_layers,
        hidden_size=hidden_size,
        tie_word_embeddings=tie_word_embeddings,
        dropout=dropout,
        attention=attention,
        mlp=mlp,
        **parts,
    )


def _heads(hidden_size: int, num_attention_heads: int | None, head_dim: int | None) -> tuple[int, int]:
    """Number and width of heads: 64 channels from width 192 on, 32 below: narrow models have several too."""
    if num_attention_heads is None:
        head_dim = head_dim or (64 if hidden_size >= 192 else 32)
        return max(1, hidden_size // head_dim), head_dim
    return num_attention_heads, head_dim or hidden_size // num_attention_heads
