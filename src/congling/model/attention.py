"""Grouped-query causal self-attention, and what all blocks of one forward pass share."""

# B batch, T time, S keys in sight (T, or more with a cache), W width, H heads, K key/value heads, D head width

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from congling.model.cache import KVCache, LayerCache
from congling.model.config import ModelConfig
from congling.model.norm import build_norm
from congling.model.positions import Angles, keep, rotate


class Sight(NamedTuple):
    """Where the tokens of one forward pass stand and which others they see; computed once, used by every block."""

    angles: Angles | None
    mask: Tensor | None
    """(B or 1, 1, T, S) booleans, true where a query sees a key; None: decided by ``causal``."""
    causal: bool
    """Without a mask: each token sees itself and those before it (else all keys)."""


class Attention(nn.Module):
    """Grouped-query attention (Ainslie et al. 2023), optionally with normalised queries and keys (Qwen3).

    One matrix projects to queries, keys and values: its rows are those of the three, one after the other
    (``config.attention.rows``), so that an exporter can cut them apart.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        attention = config.attention
        self.head_width = attention.head_width
        self.heads = (attention.heads, attention.kv_heads, attention.kv_heads)
        self.grouped = attention.heads != attention.kv_heads
        self.qkv = nn.Linear(config.width, sum(attention.rows), bias=attention.bias)
        self.output = nn.Linear(attention.rows[0], config.width, bias=attention.bias)
        self.query_norm = build_norm(config.norm, self.head_width) if attention.qk_norm else nn.Identity()
        self.key_norm = build_norm(config.norm, self.head_width) if attention.qk_norm else nn.Identity()
        self.rotate = rotate if config.positions.kind == "rope" else keep

    def forward(self, x: Tensor, sight: Sight, cache: LayerCache | None = None) -> Tensor:
        """Mix what each token sees: (B, T, W) -> (B, T, W)."""
        batch, time, _ = x.shape
        heads = self.qkv(x).view(batch, time, -1, self.head_width).transpose(1, 2)
        query, key, value = heads.split(self.heads, dim=1)  # (B, H, T, D), twice (B, K, T, D)
        query = self.rotate(self.query_norm(query), sight.angles)
        key = self.rotate(self.key_norm(key), sight.angles)
        if cache is not None:
            key, value = cache.extend(key, value)
        mixed = scaled_dot_product_attention(
            query, key, value, attn_mask=sight.mask, is_causal=sight.causal, enable_gqa=self.grouped
        )
        return self.output(mixed.transpose(1, 2).reshape(batch, time, -1))


def visibility(tokens: Tensor, documents: Tensor | None, cache: KVCache | None) -> tuple[Tensor | None, bool]:
    """The mask and the causal flag of ``Sight`` for tokens (B, T).

    With ``documents`` (B, T), numbers that differ between neighbouring texts of a row, no text sees another::

        documents 0 0 1 1      query ╲ key   a b c d
                                   a         ■
                                   b         ■ ■
                                   c             ■
                                   d             ■ ■
    """
    if cache is not None:
        return cache.visible(tokens.shape[1], tokens.device)
    if documents is None:
        return None, True
    same = documents[:, :, None] == documents[:, None, :]
    return same.tril()[:, None], False
