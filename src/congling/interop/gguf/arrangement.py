"""The order of query and key rows: which channels of a head are turned together.

::

    half-split (ours)    0 1 2 3 4 5 6 7      pairs (0,4) (1,5) (2,6) (3,7)
    interleaved          0 4 1 5 2 6 3 7      the same pairs as neighbours

Rows move as a whole, so everything here works on floats, on packed blocks, on biases and on the ``b`` of an
adapter alike.
"""

# H heads, D head width

from typing import Protocol, Self, TypeVar

import numpy as np

from congling.model.config import ModelConfig

INTERLEAVED = frozenset(
    {"llama", "baichuan", "deepseek", "ernie4_5", "granite", "internlm2", "minicpm", "smollm3"}
)
"""Architectures whose files keep neighbours together; all others are half-split like ours."""


class Rows(Protocol):
    """An array or tensor (H·D, ...)."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: np.ndarray, /) -> Self: ...


_Rows = TypeVar("_Rows", bound=Rows)


def to_interleaved(rows: _Rows, heads: int) -> _Rows:
    """Rows in the order of llama files, from ours."""
    return rows[_order(len(rows), heads)]


def to_half_split(rows: _Rows, heads: int) -> _Rows:
    """Rows in our order, from that of llama files."""
    return rows[np.argsort(_order(len(rows), heads))]


def turned_heads(name: str, config: ModelConfig, architecture: str) -> int | None:
    """How many heads the rows of our parameter ``name`` form, if a file of ``architecture`` reorders them."""
    if architecture not in INTERLEAVED:
        return None
    if ".attention.query." in name:
        return config.attention.heads
    return config.attention.kv_heads if ".attention.key." in name else None


def _order(rows: int, heads: int) -> np.ndarray:
    return np.arange(rows).reshape(heads, 2, rows // heads // 2).swapaxes(1, 2).reshape(-1)
