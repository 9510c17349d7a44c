"""Layers with weights in ggml's blocks, which are memory-mapped or made here: see ``frozen.py``."""

# R rows (outputs), B bytes of a row, I inputs, N rows of x (batch times time), V vocabulary, W width

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from congling.quant import ggml
from congling.quant.frozen import FrozenLinear, FrozenMatrix, scratch
from congling.quant.unpack import check_type, unpack


class Packed(FrozenMatrix):
    """A matrix (R, I) in blocks, that multiplies without ever being float32 as a whole.

    Files may have the rows of rotary heads in another order (those of llama 0 4 1 5 2 6 3 7). With ``order``
    the products are put in ours, which is less to move than the rows and leaves the bytes where they lie.

    Attributes:
        raw: (R, B) uint8, no part of ``state_dict``: it is read from where it lies.
        order: (R,) where each of our rows is stored; None where rows are in our order.
        block_type: ggml's name of it, such as ``Q8_0``.
        bias: (R,) float32 or None.
    """

    raw: Tensor
    order: Tensor | None
    ours: Tensor | None
    """(R,) our number of each stored row."""

    def __init__(
        self,
        raw: np.ndarray | Tensor,
        block_type: str,
        bias: Tensor | None = None,
        *,
        order: np.ndarray | None = None,
    ) -> None:
        """Raises UserError: blocks of this type cannot be decoded."""
        check_type(block_type)
        kind = ggml.TYPES[block_type]
        super().__init__(raw.shape[0], raw.shape[1] // kind.bytes * kind.values, bias)
        self.register_buffer("order", None if order is None else torch.from_numpy(order), persistent=False)
        self.register_buffer("ours", None if self.order is None else self.order.argsort(), persistent=False)
        self.register_buffer("raw", _as_tensor(raw), persistent=False)
        self.block_type = block_type

    @property
    def device(self) -> torch.device:
        """Where the blocks are."""
        return self.raw.device

    def values(self, part: slice) -> Tensor:
        """Some rows as they lie: float32, valid until the next call."""
        raw = self.raw[part]
        return unpack(raw, self.block_type, scratch(len(raw), self.inputs, raw.device))

    def pieces(self, dtype: torch.dtype = torch.float32) -> Iterator[tuple[slice, Tensor]]:
        """The matrix piece by piece as it lies: which rows, and their values, valid until the next piece."""
        if self.block_type == "F32":
            yield slice(0, self.rows), self.raw.view(torch.float32).to(dtype)
            return
        yield from super().pieces(dtype)

    def product(self, x: Tensor) -> Tensor:
        """``x @ matrixᵀ``: (N, I) -> (N, R)."""
        y = super().product(x)
        return y if self.order is None else y[:, self.order]

    def back(self, gradient: Tensor) -> Tensor:
        """``gradient @ matrix``: (N, R) -> (N, I)."""
        return super().back(gradient if self.ours is None else gradient[:, self.ours])

    def dense(self) -> Tensor:
        """The whole matrix as a new float32 tensor (R, I)."""
        rows = super().dense()
        return rows if self.order is None else rows[self.order]

    def square_lengths(self) -> Tensor:
        """(R,) float32: Σ of the squares of each row."""
        found = super().square_lengths()
        return found if self.order is None else found[self.order]


class PackedLinear(Packed, FrozenLinear):
    """A linear layer that cannot be trained, from blocks."""


class PackedEmbedding(Packed):
    """An embedding that cannot be trained; rows are unpacked as they are asked for."""

    @property
    def num_embeddings(self) -> int:
        """V."""
        return self.rows

    @property
    def embedding_dim(self) -> int:
        """W."""
        return self.inputs

    def forward(self, tokens: Tensor) -> Tensor:
        """(...) ids -> (..., W)."""
        ids, places = torch.unique(tokens, return_inverse=True)
        values = torch.empty(len(ids), self.inputs, device=self.raw.device)
        return unpack(self.raw[ids], self.block_type, values)[places]

    def logits(self, hidden: Tensor) -> Tensor:
        """Product with every vector, as a tied model's output: (..., W) -> (..., V)."""
        return self.multiply(hidden)


def _as_tensor(raw: np.ndarray | Tensor) -> Tensor:
    if isinstance(raw, Tensor):
        return raw
    with warnings.catch_warnings():  # a read-only map; nothing here writes to it
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(raw)
