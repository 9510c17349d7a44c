"""The order of query and key rows: which channels of a head are turned together.

::

    half-split (ours)    0 1 2 3 4 5 6 7      pairs (0,4) (1,5) (2,6) (3,7)
    interleaved          0 4 1 5 2 6 3 7      the same pairs as neighbours

Where only a part of each head turns, ours are the first pairs, while others have these channels first::

    ours                 0 1 2 3 4 5 6 7      pairs (0,4) (1,5) turn
    half-split           0 1 4 5 2 3 6 7
    interleaved          0 4 1 5 2 3 6 7

Rows move as a whole, so everything here works on floats, on packed blocks, on biases, on the gains of norms
and on the ``b`` of an adapter alike.
"""

# H heads, D head width

from typing import NamedTuple, Protocol, Self, TypeVar

import numpy as np

from congling.model.config import ModelConfig, RotaryConfig

INTERLEAVED = frozenset(
    {
        "llama", "baichuan", "deepseek", "ernie4_5", "granite", "internlm2", "minicpm", "smollm3", "chatglm",
        "glm4", "GlmForCausalLM", "Glm4ForCausalLM", "Ernie4_5ForCausalLM",
    }
)  # fmt: skip
"""Architectures of GGUF and classes whose files keep neighbours together; all others are half-split."""


class Heads(NamedTuple):
    """How the rows of all heads of a projection lie in a file."""

    number: int
    turned: int | None = None
    """Channels of each head that turn; None: all."""
    interleaved: bool = True


class Rows(Protocol):
    """An array or tensor (H·D, ...)."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: np.ndarray, /) -> Self: ...


_Rows = TypeVar("_Rows", bound=Rows)


def to_interleaved(rows: _Rows, heads: int | Heads) -> _Rows:
    """Rows in the order of a file, that of llama files if ``heads`` is their number, from ours."""
    return rows[_order(len(rows), heads)]


def to_half_split(rows: _Rows, heads: int | Heads) -> _Rows:
    """Rows in our order, from that of a file."""
    return rows[np.argsort(_order(len(rows), heads))]


def turned_heads(name: str, config: ModelConfig, architecture: str) -> Heads | None:
    """The heads that the rows of our parameter ``name`` form, if a file of ``architecture`` reorders them."""
    if not any(part in name for part in _REORDERED):
        return None
    attention, interleaved = config.attention, architecture in INTERLEAVED
    rotary = config.positions if config.positions.kind == "rope" else RotaryConfig()
    turned = rotary.rotary_dim(attention.head_dim)
    if not interleaved and turned == attention.head_dim:
        return None
    count = attention.num_key_value_heads if ".attention.key" in name else attention.num_attention_heads
    if "_norm." in name and attention.qk_norm_over == "head":
        count = 1
    return Heads(count, turned, interleaved)


_REORDERED = tuple(f".attention.{part}{norm}." for part in ("query", "key") for norm in ("", "_norm"))


def _order(rows: int, heads: int | Heads) -> np.ndarray:
    """Our number of each row of a file."""
    count, turned, interleaved = Heads(heads) if isinstance(heads, int) else heads
    width = rows // count
    pairs = np.arange(width).reshape(2, width // 2)
    moving = pairs[:, : width // 2 if turned is None else turned // 2]
    first = moving.T if interleaved else moving
    head = np.concatenate([first.ravel(), pairs[:, moving.shape[1] :].ravel()])
    return (np.arange(count)[:, None] * width + head).ravel()
