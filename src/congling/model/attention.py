"""Grouped-query causal self-attention, and what all blocks of one forward pass share."""

# B batch, T time, S keys in sight (T, or more with a cache), W width
# H heads, K key/value heads, D head width

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from congling.model.cache import KVCache, LayerCache
from congling.model.config import ModelConfig
from congling.model.multiplier import build_multiplier
from congling.model.norm import build_norm
from congling.model.positions import Angles, AttentionContext, Band, no_rotation, rotate
from congling.model.varlen import attend_apart


def sdpa(query: Tensor, key: Tensor, value: Tensor, context: AttentionContext) -> Tensor:
    """What each query draws from the values it sees: (B, H, T, D), twice (B, K, S, D) -> (B, H, T, D)."""
    if context.lengths is not None:
        return attend_apart(query, key, value, context.lengths, context.mask)
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=context.mask,
        is_causal=context.causal,
        enable_gqa=query.shape[1] != key.shape[1],
    )


Rotation = Callable[[Tensor, Angles | None], Tensor]


class Placement(NamedTuple):
    """What makes queries or keys (B, T, H, D) of a projection (B, T, H·D): a norm, which may do nothing, and
    the rotation by where tokens stand."""

    head_width: int
    rotate: Rotation

    def heads(self, x: Tensor, norm: nn.Module, angles: Angles | None) -> Tensor:
        """Each head normalised, then rotated (Qwen3)."""
        return self.rotate(norm(x.unflatten(-1, (-1, self.head_width))), angles)

    def projection(self, x: Tensor, norm: nn.Module, angles: Angles | None) -> Tensor:
        """All heads together normalised, then each rotated (OLMo 2)."""
        return self.rotate(norm(x).unflatten(-1, (-1, self.head_width)), angles)

    def rotated_heads(self, x: Tensor, norm: nn.Module, angles: Angles | None) -> Tensor:
        """Each head rotated, then normalised (HunYuan): the gains stay where they are."""
        return norm(self.rotate(x.unflatten(-1, (-1, self.head_width)), angles))


class Attention(nn.Module):
    """Grouped-query attention (Ainslie et al. 2023), optionally with normalised queries and keys (Qwen3).

    Three projections instead of one fused: measured equally fast here, and exporters, adapters and optimizers
    that treat a matrix as a whole see queries, keys and values as what they are.

    Attributes:
        mix: ``attend``, or what a transformation of the model put in its place.
    """

    attention_fn: Callable[[Tensor, Tensor, Tensor, AttentionContext], Tensor]

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        attention, width = config.attention, config.hidden_size
        queries, keys, values = attention.projection_sizes
        self.head_width = attention.head_dim
        self.query = nn.Linear(width, queries, bias=attention.attention_bias)
        self.key = nn.Linear(width, keys, bias=attention.attention_bias)
        self.value = nn.Linear(width, values, bias=attention.attention_bias)
        self.output = nn.Linear(queries, width, bias=attention.has_output_bias)
        queries, keys = attention.qk_norm_widths
        self.query_norm = build_norm(config.norm, queries) if attention.qk_norm else nn.Identity()
        self.key_norm = build_norm(config.norm, keys) if attention.qk_norm else nn.Identity()
        placement = Placement(attention.head_dim, rotate if config.rotated(layer) else no_rotation)
        self.place = {
            "head": placement.rotated_heads if attention.qk_norm_after_rope else placement.heads,
            "projection": placement.projection,
        }[attention.qk_norm_over]
        # The kernel scales by 1/√D already.
        multiplier = attention.attention_multiplier
        self.scale = build_multiplier(1 if multiplier is None else multiplier * self.head_width**0.5)
        self.attention_fn = sdpa

    def forward(self, x: Tensor, context: AttentionContext, cache: LayerCache | None = None) -> Tensor:
        """Mix what each token sees: (B, T, W) -> (B, T, W)."""
        batch, time, _ = x.shape
        # Normalised and rotated as (B, T, H, D), where memory is contiguous, and transposed only for the
        # kernel, which takes any strides: 15 % off the time of compiled attention on a CPU.
        query = self.scale(self.place(self.query(x), self.query_norm, context.angles)).transpose(1, 2)
        key = self.place(self.key(x), self.key_norm, context.angles).transpose(1, 2)
        value = self.value(x).unflatten(-1, (-1, self.head_width)).transpose(1, 2)  # (B, K, T, D)
        if cache is not None:
            key, value = cache.extend(key, value)
        mixed = self.attention_fn(query, key, value, context)
        return self.output(mixed.transpose(1, 2).reshape(batch, time, -1))


class LengthAttention(Attention):
    """Attention of positions whose frequencies depend on the length: keys are kept as they were before
    rotation, and all that a band of tokens sees are turned by its frequencies (``length_positions.py``)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__(config, layer)
        heads = Placement(self.head_width, no_rotation)
        self.norm_last = config.attention.qk_norm_after_rope
        over_all = config.attention.qk_norm_over == "projection"
        self.unrotated = heads.projection if over_all else heads.heads

    def forward(self, x: Tensor, context: AttentionContext, cache: LayerCache | None = None) -> Tensor:
        """Mix what each token sees: (B, T, W) -> (B, T, W)."""
        batch, time, _ = x.shape
        query, key = (
            self.unrotated(projected, nn.Identity() if self.norm_last else norm, None)
            for projected, norm in ((self.query(x), self.query_norm), (self.key(x), self.key_norm))
        )
        value = self.value(x).unflatten(-1, (-1, self.head_width)).transpose(1, 2)  # (B, K, T, D)
        before = 0
        if cache is not None:
            before = cache.length
            kept, value = cache.extend(key.transpose(1, 2), value)
            key = kept.transpose(1, 2)  # (B, S, K, D)
        mixed = []
        for band in context.bands:
            cosines, sines = band.angles() if callable(band.angles) else band.angles
            sight, looking = before + band.end, slice(before + band.start, before + band.end)
            own = cosines[:, looking], sines[:, looking]
            q = self._turned(query[:, band.start : band.end], self.query_norm, own)
            k = self._turned(key[:, :sight], self.key_norm, (cosines, sines))
            seen = _of_band(context, band, before, x.device)
            mixed.append(self.attention_fn(self.scale(q), k, value[:, :, :sight], seen))
        return self.output(torch.cat(mixed, 2).transpose(1, 2).reshape(batch, time, -1))

    def _turned(self, x: Tensor, norm: nn.Module, angles: Angles) -> Tensor:
        """(B, T, H, D) -> (B, H, T, D)."""
        turned = rotate(x, angles)
        return (norm(turned) if self.norm_last else turned).transpose(1, 2)


def _of_band(context: AttentionContext, band: Band, before: int, device: torch.device) -> AttentionContext:
    """What the tokens of a band see of the keys up to its end."""
    sight = before + band.end
    if context.mask is not None:
        return context._replace(mask=context.mask[..., band.start : band.end, :sight], lengths=None)
    if not context.causal or (not before and not band.start):
        return context._replace(lengths=None)
    slots = torch.arange(sight, device=device)
    mask = slots <= slots[before + band.start :, None]
    return context._replace(mask=mask[None, None], causal=False, lengths=None)


def causal_context(
    tokens: Tensor,
    documents: Tensor | None,
    cache: KVCache | None,
    lengths: tuple[int, ...] | None = None,
) -> AttentionContext:
    """Each of the tokens (B, T) sees itself and those before it; nothing is said of positions yet.

    With ``documents`` (B, T), numbers that differ between neighbouring texts of a row, no text sees another::

        documents 0 0 1 1      query ╲ key   a b c d
                                   a         ■
                                   b         ■ ■
                                   c             ■
                                   d             ■ ■

    With the ``lengths`` of these texts there is no such mask: each is attended to by itself.
    """
    mask, causal = None, True
    if cache is not None:
        mask, causal = cache.visible(tokens.shape[1], tokens.device)
    elif documents is not None and lengths is None:
        same = documents[:, :, None] == documents[:, None, :]
        mask, causal = same.tril()[:, None], False
    return AttentionContext(None, mask, causal, lengths)
