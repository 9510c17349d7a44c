"""Model families as a few lines of configuration each; a family is a choice of parts, not a class.

Every function takes the sizes by name and fills in the family's habits for what is left out.
"""

from collections.abc import Callable

from congling.model.config import (
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


def qwen3(
    *,
    vocab_size: int,
    context: int,
    layers: int,
    width: int,
    heads: int | None = None,
    kv_heads: int | None = None,
    head_width: int | None = None,
    hidden: int | None = None,
    dropout: float = 0.0,
    tied: bool = True,
    rope_base: float = 10_000.0,
) -> ModelConfig:
    """The default: RMSNorm, SwiGLU of 3 × width, RoPE, two query heads a key/value head, QK-norm.

    Source: Qwen3 technical report (Yang et al. 2025).
    """
    heads, head_width = _heads(width, heads, head_width)
    return ModelConfig(
        vocab_size=vocab_size, context=context, layers=layers, width=width, tied=tied, dropout=dropout,
        attention=AttentionConfig(
            heads=heads, kv_heads=kv_heads or _shared(heads), head_width=head_width, qk_norm=True
        ),
        mlp=GatedMLPConfig(hidden=hidden or 3 * width),
        norm=RMSNormConfig(),
        positions=RotaryConfig(base=rope_base),
    )  # fmt: skip


def llama(
    *,
    vocab_size: int,
    context: int,
    layers: int,
    width: int,
    heads: int | None = None,
    kv_heads: int | None = None,
    head_width: int | None = None,
    hidden: int | None = None,
    dropout: float = 0.0,
    tied: bool = True,
    rope_base: float = 10_000.0,
) -> ModelConfig:
    """RMSNorm, SwiGLU of 8/3 × width rounded up, RoPE; GQA only by ``kv_heads`` (Touvron et al. 2023)."""
    heads, head_width = _heads(width, heads, head_width)
    step = 256 if width % 256 == 0 else 64
    return ModelConfig(
        vocab_size=vocab_size, context=context, layers=layers, width=width, tied=tied, dropout=dropout,
        attention=AttentionConfig(heads=heads, kv_heads=kv_heads or heads, head_width=head_width),
        mlp=GatedMLPConfig(hidden=hidden or -(-8 * width // (3 * step)) * step),
        norm=RMSNormConfig(),
        positions=RotaryConfig(base=rope_base),
    )  # fmt: skip


def gpt2(
    *,
    vocab_size: int,
    context: int,
    layers: int,
    width: int,
    heads: int | None = None,
    kv_heads: int | None = None,
    head_width: int | None = None,
    hidden: int | None = None,
    dropout: float = 0.0,
    tied: bool = True,
) -> ModelConfig:
    """LayerNorm, GELU MLP of 4 × width, learned positions, biases everywhere (Radford et al. 2019)."""
    heads, head_width = _heads(width, heads, head_width)
    return ModelConfig(
        vocab_size=vocab_size, context=context, layers=layers, width=width, tied=tied, dropout=dropout,
        attention=AttentionConfig(heads=heads, kv_heads=kv_heads or heads, head_width=head_width, bias=True),
        mlp=PlainMLPConfig(hidden=hidden or 4 * width),
        norm=LayerNormConfig(),
        positions=LearnedPositionsConfig(),
        initial=ScaledNormalConfig(),
    )  # fmt: skip


def qwen3_moe(
    *,
    vocab_size: int,
    context: int,
    layers: int,
    width: int,
    heads: int | None = None,
    kv_heads: int | None = None,
    head_width: int | None = None,
    hidden: int | None = None,
    dropout: float = 0.0,
    tied: bool = True,
    rope_base: float = 10_000.0,
    experts: int = 8,
    active: int = 2,
    balance: float = 0.001,
) -> ModelConfig:
    """Qwen3 whose MLPs are ``experts`` smaller ones behind a softmax router; ``hidden`` is one expert's."""
    dense = qwen3(
        vocab_size=vocab_size, context=context, layers=layers, width=width, heads=heads, kv_heads=kv_heads,
        head_width=head_width, dropout=dropout, tied=tied, rope_base=rope_base,
    )  # fmt: skip
    hidden = hidden or _share(3 * width, active)
    router = SoftmaxRouterConfig(balance=balance)
    mlp = MoEConfig(experts=experts, active=active, hidden=hidden, router=router)
    return dense.replace(mlp=mlp.model_dump())


def deepseek_moe(
    *,
    vocab_size: int,
    context: int,
    layers: int,
    width: int,
    heads: int | None = None,
    kv_heads: int | None = None,
    head_width: int | None = None,
    hidden: int | None = None,
    dropout: float = 0.0,
    tied: bool = True,
    rope_base: float = 10_000.0,
    experts: int = 16,
    active: int = 3,
    shared: int = 1,
    dense_layers: int = 1,
    dense_hidden: int | None = None,
    scale: float = 1.0,
    bias_rate: float = 0.001,
) -> ModelConfig:
    """Shared and many fine-grained routed experts, balanced without a loss (DeepSeekMoE, Dai et al. 2024).

    Attention is Qwen3's, as in dots.llm1; multi-head latent attention is another part. ``hidden`` is that of
    one expert.
    """
    dense = qwen3(
        vocab_size=vocab_size, context=context, layers=layers, width=width, heads=heads, kv_heads=kv_heads,
        head_width=head_width, dropout=dropout, tied=tied, rope_base=rope_base,
    )  # fmt: skip
    hidden = hidden or _share(3 * width, active + shared)
    mlp = MoEConfig(
        experts=experts, active=active, hidden=hidden, shared=shared,
        dense_layers=min(dense_layers, layers - 1), dense_hidden=dense_hidden or 3 * width,
        router=SigmoidRouterConfig(scale=scale, bias_rate=bias_rate),
    )  # fmt: skip
    return dense.replace(mlp=mlp.model_dump())


FAMILIES: dict[str, Callable[..., ModelConfig]] = {
    "qwen3": qwen3,
    "llama": llama,
    "gpt2": gpt2,
    "qwen3-moe": qwen3_moe,
    "deepseek-moe": deepseek_moe,
}


def _heads(width: int, heads: int | None, head_width: int | None) -> tuple[int, int]:
    """Number and width of heads: 64 channels from width 256 on, 32 below: narrow models have several too."""
    if heads is None:
        head_width = head_width or (64 if width >= 256 else 32)
        return max(1, width // head_width), head_width
    return heads, head_width or width // heads


def _shared(heads: int) -> int:
    """Two query heads to a key/value head: halves the cache at next to no loss."""
    return heads // 2 if heads % 2 == 0 else heads


def _share(hidden: int, active: int) -> int:
    """Hidden width of one of ``active`` experts that together are as wide as a dense MLP of ``hidden``."""
    return max(64, hidden // active // 64 * 64)
