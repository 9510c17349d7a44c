"""Model families as a few lines of configuration each; a family is a choice of parts, not a class.

Every function takes the sizes by name and fills in the family's habits for what is left out. An
argument that a family does not have is a ``TypeError``, sizes that contradict each other are pydantic's
``ValidationError``.
"""

from collections.abc import Callable
from typing import Any, Required, TypedDict, Unpack

from congling.model.config import (
    MLP,
    AlibiConfig,
    AttentionConfig,
    GatedMLPConfig,
    LayerNormConfig,
    LearnedPositionsConfig,
    ModelConfig,
    MoEConfig,
    PlainMLPConfig,
    RMSNormConfig,
    RotaryConfig,
    ScaledNormalConfig,
    SigmoidRouterConfig,
    SoftmaxRouterConfig,
)


class Sizes(TypedDict, total=False):
    """What every family is told besides ``width`` and ``hidden``, whose habits differ."""

    vocab_size: Required[int]
    context: Required[int]
    layers: Required[int]
    heads: int | None
    kv_heads: int | None
    """Heads of keys and values; by default as many as the family shares."""
    head_width: int | None
    dropout: float
    tied: bool


def qwen3(
    *, width: int, hidden: int | None = None, rope_base: float = 10_000.0, **sizes: Unpack[Sizes]
) -> ModelConfig:
    """The default: RMSNorm, SwiGLU of 3 × width, RoPE, two query heads a key/value head, QK-norm.

    Source: Qwen3 technical report (Yang et al. 2025).
    """
    return _decoder(
        width,
        GatedMLPConfig(hidden=hidden or 3 * width),
        shares=2,
        qk_norm=True,
        bias=False,
        parts={"norm": RMSNormConfig(), "positions": RotaryConfig(base=rope_base)},
        **sizes,
    )


def llama(
    *, width: int, hidden: int | None = None, rope_base: float = 10_000.0, **sizes: Unpack[Sizes]
) -> ModelConfig:
    """RMSNorm, SwiGLU of 8/3 × width rounded up, RoPE; GQA only by ``kv_heads`` (Touvron et al. 2023)."""
    step = 256 if width % 256 == 0 else 64
    return _decoder(
        width,
        GatedMLPConfig(hidden=hidden or -(-8 * width // (3 * step)) * step),
        shares=1,
        qk_norm=False,
        bias=False,
        parts={"norm": RMSNormConfig(epsilon=1e-5), "positions": RotaryConfig(base=rope_base)},
        **sizes,
    )


def mistral(
    *, width: int, hidden: int | None = None, rope_base: float = 10_000.0, **sizes: Unpack[Sizes]
) -> ModelConfig:
    """Llama with four query heads a key/value head and SwiGLU of 3.5 × width (Jiang et al. 2023)."""
    return _decoder(
        width,
        GatedMLPConfig(hidden=hidden or 7 * width // 2),
        shares=4,
        qk_norm=False,
        bias=False,
        parts={"norm": RMSNormConfig(epsilon=1e-5), "positions": RotaryConfig(base=rope_base)},
        **sizes,
    )


def qwen2(
    *, width: int, hidden: int | None = None, rope_base: float = 10_000.0, **sizes: Unpack[Sizes]
) -> ModelConfig:
    """Llama with biases on queries, keys and values, two query heads a key/value head (Yang et al. 2024)."""
    dense = qwen3(width=width, hidden=hidden, rope_base=rope_base, **sizes)
    return dense.replace(attention={"qk_norm": False, "bias": True, "output_bias": False})


def olmo2(
    *, width: int, hidden: int | None = None, rope_base: float = 500_000.0, **sizes: Unpack[Sizes]
) -> ModelConfig:
    """Llama with norms behind the sublayers instead of before them, and on queries and keys as a whole.

    Source: 2 OLMo 2 Furious (OLMo Team 2025). Not zero-output: a norm would blow the first outputs up.
    """
    dense = llama(width=width, hidden=hidden, rope_base=rope_base, **sizes)
    return dense.replace(
        attention={"qk_norm": True, "qk_norm_over": "projection"},
        norm={"epsilon": 1e-6},
        norm_placement="post",
        initial=ScaledNormalConfig().model_dump(),
    )


def glm(
    *, width: int, hidden: int | None = None, partial_rotary_factor: float = 0.5, **sizes: Unpack[Sizes]
) -> ModelConfig:
    """Llama with biases on queries, keys and values, rotary positions on a half of each head (GLM-4 9B)."""
    dense = qwen2(width=width, hidden=hidden, **sizes)
    return dense.replace(positions={"partial_rotary_factor": partial_rotary_factor}, norm={"epsilon": 1e-6})


def glm4(
    *, width: int, hidden: int | None = None, partial_rotary_factor: float = 0.5, **sizes: Unpack[Sizes]
) -> ModelConfig:
    """GLM whose sublayers have norms before and behind them, as GLM-4-0414."""
    dense = glm(width=width, hidden=hidden, partial_rotary_factor=partial_rotary_factor, **sizes)
    return dense.replace(norm_placement="sandwich", initial=ScaledNormalConfig().model_dump())


def gemma3(
    *,
    width: int,
    hidden: int | None = None,
    rope_base: float = 1_000_000.0,
    sliding_window: int = 512,
    rope_local_base_freq: float = 10_000.0,
    **sizes: Unpack[Sizes],
) -> ModelConfig:
    """Five blocks with a sliding window to one without, norms before and behind, GeGLU (Gemma Team 2025).

    Embeddings are multiplied by the root of the width.
    """
    dense = qwen3(width=width, hidden=hidden, rope_base=rope_base, **sizes)
    kinds = tuple("sliding_attention" if (i + 1) % 6 else "full_attention" for i in range(dense.layers))
    return dense.replace(
        attention={"sliding_window": sliding_window, "layer_types": kinds},
        positions={"rope_local_base_freq": rope_local_base_freq},
        mlp={"hidden_act": "gelu_pytorch_tanh"},
        norm_placement="sandwich",
        embedding_multiplier=width**0.5,
        initial=ScaledNormalConfig().model_dump(),
    )


def baichuan(*, width: int, hidden: int | None = None, **sizes: Unpack[Sizes]) -> ModelConfig:
    """Llama with ALiBi for positions, as Baichuan 13B; the 7B model is a Llama (Yang et al. 2023)."""
    alibi = {"norm": {"epsilon": 1e-6}, "positions": AlibiConfig().model_dump()}
    return llama(width=width, hidden=hidden, **sizes).replace(**alibi)


def gpt2(*, width: int, hidden: int | None = None, **sizes: Unpack[Sizes]) -> ModelConfig:
    """LayerNorm, GELU MLP of 4 × width, learned positions, biases everywhere (Radford et al. 2019)."""
    parts = {
        "norm": LayerNormConfig(),
        "positions": LearnedPositionsConfig(),
        "initial": ScaledNormalConfig(),
    }
    return _decoder(
        width,
        PlainMLPConfig(hidden=hidden or 4 * width),
        shares=1,
        qk_norm=False,
        bias=True,
        parts=parts,
        **sizes,
    )


def qwen3_moe(
    *,
    width: int,
    hidden: int | None = None,
    rope_base: float = 10_000.0,
    experts: int = 8,
    active: int = 2,
    balance: float = 0.001,
    **sizes: Unpack[Sizes],
) -> ModelConfig:
    """Qwen3 whose MLPs are ``experts`` smaller ones behind a softmax router; ``hidden`` is one expert's."""
    mlp = MoEConfig(
        experts=experts,
        active=active,
        hidden=hidden or _share(3 * width, active),
        router=SoftmaxRouterConfig(balance=balance),
    )
    return qwen3(width=width, rope_base=rope_base, **sizes).replace(mlp=mlp.model_dump())


def mixtral(
    *,
    width: int,
    hidden: int | None = None,
    rope_base: float = 10_000.0,
    experts: int = 8,
    active: int = 2,
    balance: float = 0.001,
    **sizes: Unpack[Sizes],
) -> ModelConfig:
    """Mistral whose MLPs are ``experts`` of full width behind a softmax router (Jiang et al. 2024)."""
    mlp = MoEConfig(
        experts=experts,
        active=active,
        hidden=hidden or 7 * width // 2,
        router=SoftmaxRouterConfig(balance=balance),
    )
    return mistral(width=width, rope_base=rope_base, **sizes).replace(mlp=mlp.model_dump())


def deepseek_moe_v1(
    *,
    width: int,
    hidden: int | None = None,
    rope_base: float = 10_000.0,
    experts: int = 16,
    active: int = 3,
    shared: int = 1,
    dense_layers: int = 1,
    dense_hidden: int | None = None,
    scale: float = 1.0,
    balance: float = 0.001,
    **sizes: Unpack[Sizes],
) -> ModelConfig:
    """DeepSeekMoE as published (Dai et al. 2024): Llama's attention, softmax not renormalised."""
    dense = llama(width=width, rope_base=rope_base, **sizes)
    mlp = MoEConfig(
        experts=experts,
        active=active,
        hidden=hidden or _share(3 * width, active + shared),
        shared=shared,
        dense_layers=min(dense_layers, dense.layers - 1),
        dense_hidden=dense_hidden or 3 * width,
        router=SoftmaxRouterConfig(balance=balance, normalise=False, scale=scale),
    )
    return dense.replace(norm={"epsilon": 1e-6}, mlp=mlp.model_dump())


def deepseek_moe(
    *,
    width: int,
    hidden: int | None = None,
    rope_base: float = 10_000.0,
    experts: int = 16,
    active: int = 3,
    shared: int = 1,
    dense_layers: int = 1,
    dense_hidden: int | None = None,
    scale: float = 1.0,
    bias_rate: float = 0.001,
    **sizes: Unpack[Sizes],
) -> ModelConfig:
    """Shared and many fine-grained routed experts, balanced without a loss (DeepSeekMoE, Dai et al. 2024).

    Attention is Qwen3's, as in dots.llm1; multi-head latent attention is another part. ``hidden`` is that of
    one expert.
    """
    dense = qwen3(width=width, rope_base=rope_base, **sizes)
    mlp = MoEConfig(
        experts=experts,
        active=active,
        hidden=hidden or _share(3 * width, active + shared),
        shared=shared,
        dense_layers=min(dense_layers, dense.layers - 1),
        dense_hidden=dense_hidden or 3 * width,
        router=SigmoidRouterConfig(scale=scale, bias_rate=bias_rate),
    )
    return dense.replace(mlp=mlp.model_dump())


FAMILIES: dict[str, Callable[..., ModelConfig]] = {
    "qwen3": qwen3,
    "llama": llama,
    "gpt2": gpt2,
    "qwen3-moe": qwen3_moe,
    "deepseek-moe": deepseek_moe,
    "mistral": mistral,
    "qwen2": qwen2,
    "baichuan": baichuan,
    "mixtral": mixtral,
    "deepseek-moe-v1": deepseek_moe_v1,
    "olmo2": olmo2,
    "glm": glm,
    "glm4": glm4,
    "gemma3": gemma3,
}


def _decoder(
    width: int,
    mlp: MLP,
    *,
    vocab_size: int,
    context: int,
    layers: int,
    heads: int | None = None,
    kv_heads: int | None = None,
    head_width: int | None = None,
    dropout: float = 0.0,
    tied: bool = True,
    shares: int,
    qk_norm: bool,
    bias: bool,
    parts: dict[str, Any],
) -> ModelConfig:
    """Sizes and a family's habits together; ``shares`` query heads use one key/value head, if they divide."""
    heads, head_width = _heads(width, heads, head_width)
    attention = AttentionConfig(
        heads=heads,
        kv_heads=kv_heads or (heads if heads % shares else heads // shares),
        head_width=head_width,
        qk_norm=qk_norm,
        bias=bias,
    )
    return ModelConfig(
        vocab_size=vocab_size,
        context=context,
        layers=layers,
        width=width,
        tied=tied,
        dropout=dropout,
        attention=attention,
        mlp=mlp,
        **parts,
    )


def _heads(width: int, heads: int | None, head_width: int | None) -> tuple[int, int]:
    """Number and width of heads: 64 channels from width 192 on, 32 below: narrow models have several too."""
    if heads is None:
        head_width = head_width or (64 if width >= 192 else 32)
        return max(1, width // head_width), head_width
    return heads, head_width or width // heads


def _share(hidden: int, active: int) -> int:
    """Hidden width of one of ``active`` experts that together are as wide as a dense MLP of ``hidden``."""
    return max(64, hidden // active // 64 * 64)
