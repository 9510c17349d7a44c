"""Layers with quantised weights: blocks of rows are dequantised to float32, multiplied and dropped.

::

    raw bytes (memory-mapped) ── some rows ──▶ float32, in the cache ──▶ x @ rowsᵀ        forward
                              ── some rows ──▶ float32, in the cache ──▶ gradient @ rows  backward

The weights have no gradient, so backward needs nothing from forward: it unpacks the same rows again. At no
time is there more than one piece in float32.
"""

# R rows (outputs), B bytes of a row, I inputs, N rows of x (batch times time), V vocabulary, W width

import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from congling.quant import ggml
from congling.quant.unpack import check_type, unpack

PIECE_VALUES = {"cpu": 2**21, "cuda": 2**24}
"""Values unpacked at once: more than a CPU's second-level cache holds, for narrow products waste the matrix
kernel; enough to fill a GPU."""


class Packed(nn.Module):
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
    bias: Tensor | None
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
        super().__init__()
        self.register_buffer("order", None if order is None else torch.from_numpy(order), persistent=False)
        self.register_buffer("ours", None if self.order is None else self.order.argsort(), persistent=False)
        check_type(block_type)
        self.register_buffer("raw", _as_tensor(raw), persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.block_type = block_type
        kind = ggml.TYPES[block_type]
        self.rows, self.inputs = self.raw.shape[0], self.raw.shape[1] // kind.bytes * kind.values

    def times(self, x: Tensor) -> Tensor:
        """``x @ matrixᵀ + bias``: (N, I) -> (N, R)."""
        y = x.new_empty(len(x), self.rows)
        for part, rows in self.pieces(x.dtype):
            torch.mm(x, rows.T, out=y[:, part])
        if self.order is not None:
            y = y[:, self.order]
        return y if self.bias is None else y.add_(self.bias)

    def back(self, gradient: Tensor) -> Tensor:
        """``gradient @ matrix``: (N, R) -> (N, I)."""
        if self.ours is not None:
            gradient = gradient[:, self.ours]
        total = gradient.new_empty(len(gradient), self.inputs)
        for part, rows in self.pieces(gradient.dtype):
            if part.start == 0:
                torch.mm(gradient[:, part], rows, out=total)
            else:
                total.addmm_(gradient[:, part], rows)
        return total

    def pieces(self, dtype: torch.dtype = torch.float32) -> Iterator[tuple[slice, Tensor]]:
        """The matrix piece by piece as it lies: which rows, and their values, valid until the next piece."""
        if self.block_type == "F32":
            yield slice(0, self.rows), self.raw.view(torch.float32).to(dtype)
            return
        size = max(1, PIECE_VALUES.get(self.raw.device.type, 2**20) // self.inputs)
        for start in range(0, self.rows, size):
            part = slice(start, min(start + size, self.rows))
            yield part, self._values(self.raw[part]).to(dtype)

    def dense(self) -> Tensor:
        """The whole matrix as a new float32 tensor (R, I)."""
        rows = torch.cat([rows.clone() for _, rows in self.pieces()])
        return rows if self.order is None else rows[self.order]

    def square_lengths(self) -> Tensor:
        """(R,) float32: Σ of the squares of each row."""
        found = torch.cat([rows.square().sum(1) for _, rows in self.pieces()])
        return found if self.order is None else found[self.order]

    def multiply(self, x: Tensor) -> Tensor:
        """``x @ matrixᵀ + bias`` with a gradient for x: (..., I) -> (..., R)."""
        kind = x.device.type
        compute = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        return _uncompiled(x.to(compute), self)

    def _values(self, raw: Tensor) -> Tensor:
        return unpack(raw, self.block_type, _scratch(len(raw), self.inputs, raw.device))


class PackedLinear(Packed):
    """A linear layer that cannot be trained, from blocks."""

    @property
    def in_features(self) -> int:
        """I."""
        return self.inputs

    @property
    def out_features(self) -> int:
        """R."""
        return self.rows

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., R)."""
        return self.multiply(x)


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


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Packed) -> Tensor:
        ctx.layer, ctx.shape = layer, x.shape
        with torch.autocast(x.device.type, enabled=False):
            y = layer.times(x.reshape(-1, x.shape[-1]))
        return y if x.dim() == 2 else y.view(*x.shape[:-1], -1)  # a view must not be changed in place later

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None]:
        gradient = gradients[0]
        with torch.autocast(gradient.device.type, enabled=False):
            return ctx.layer.back(gradient.reshape(-1, gradient.shape[-1])).view(ctx.shape), None


_uncompiled: Any = torch.compiler.disable(_Product.apply)
_scratches = threading.local()


def _scratch(rows: int, inputs: int, device: torch.device) -> Tensor:
    """Memory for a piece, the same every time: fresh memory costs a page fault for every 4 KiB."""
    store: dict[torch.device, Tensor] = vars(_scratches).setdefault("by_device", {})
    found = store.get(device)
    if found is None or found.numel() < rows * inputs:
        with torch.inference_mode(False):  # memory of inference may not be written to in training
            found = store[device] = torch.empty(rows * inputs, device=device)
    return found[: rows * inputs].view(rows, inputs)


def _as_tensor(raw: np.ndarray | Tensor) -> Tensor:
    if isinstance(raw, Tensor):
        return raw
    with warnings.catch_warnings():  # a read-only map; nothing here writes to it
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(raw)
