"""Layers whose matrix cannot be trained and is float32 a few rows at a time alone: what all kinds share.

::

    stored ── some rows ──▶ float32, in the cache ──▶ x @ rowsᵀ        forward
           ── some rows ──▶ float32, in the cache ──▶ gradient @ rows  backward

The weights have no gradient, so backward needs nothing from forward: it makes the same rows again. At no time
is there more than one piece in float32.
"""

# R rows (outputs), I inputs, N rows of x (batch times time)

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from congling.core.errors import UserError

PIECE_VALUES = {"cpu": 2**21, "cuda": 2**24}
"""Values unpacked at once: more than a CPU's second-level cache holds, for narrow products waste the matrix
kernel; enough to fill a GPU."""


class FrozenMatrix(nn.Module):
    """A matrix (R, I) that multiplies without ever being float32 as a whole.

    Attributes:
        rows: R.
        inputs: I.
        bias: (R,) float32 or None; no part of ``state_dict``, as all that is stored in fewer bits.
    """

    bias: Tensor | None

    def __init__(self, rows: int, inputs: int, bias: Tensor | None) -> None:
        super().__init__()
        self.rows, self.inputs = rows, inputs
        self.register_buffer("bias", bias, persistent=False)

    def values(self, part: slice) -> Tensor:
        """Some rows as they are stored: (rows of ``part``, I) float32, valid until the next call."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Where the matrix is stored."""
        return next(self.buffers()).device

    def pieces(self, dtype: torch.dtype = torch.float32) -> Iterator[tuple[slice, Tensor]]:
        """The matrix piece by piece as it lies: which rows, and their values, valid until the next piece."""
        size = max(1, PIECE_VALUES.get(self.device.type, 2**20) // self.inputs)
        for start in range(0, self.rows, size):
            part = slice(start, min(start + size, self.rows))
            yield part, self.values(part).to(dtype)

    def product(self, x: Tensor) -> Tensor:
        """``x @ matrixᵀ``: (N, I) -> (N, R)."""
        y = x.new_empty(len(x), self.rows)
        for part, rows in self.pieces(x.dtype):
            torch.mm(x, rows.T, out=y[:, part])
        return y

    def times(self, x: Tensor) -> Tensor:
        """``x @ matrixᵀ + bias``: (N, I) -> (N, R)."""
        y = self.product(x)
        return y if self.bias is None else y.add_(self.bias)

    def back(self, gradient: Tensor) -> Tensor:
        """``gradient @ matrix``: (N, R) -> (N, I)."""
        total = gradient.new_empty(len(gradient), self.inputs)
        for part, rows in self.pieces(gradient.dtype):
            if part.start == 0:
                torch.mm(gradient[:, part], rows, out=total)
            else:
                total.addmm_(gradient[:, part], rows)
        return total

    def dense(self) -> Tensor:
        """The whole matrix as a new float32 tensor (R, I)."""
        return torch.cat([rows.clone() for _, rows in self.pieces()])

    def square_lengths(self) -> Tensor:
        """(R,) float32: Σ of the squares of each row."""
        return torch.cat([rows.square().sum(1) for _, rows in self.pieces()])

    def multiply(self, x: Tensor) -> Tensor:
        """``x @ matrixᵀ + bias`` with a gradient for x: (..., I) -> (..., R)."""
        kind = x.device.type
        compute = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        return _uncompiled(x.to(compute), self)


class FrozenLinear(FrozenMatrix):
    """A linear layer that cannot be trained, whatever its weights are stored as."""

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


def stored_parts(
    part: Callable[[str], Tensor | None], types: Mapping[str, tuple[torch.dtype, ...]], needed: int
) -> dict[str, Tensor]:
    """Parts of a layer from a file, those that are there, and its ``bias`` as float32.

    Args:
        part: gives a part by its name.
        types: names and the types each may have; the first ``needed`` of them must be there.
        needed: how many.

    Raises:
        UserError: one is missing or of another type.
    """
    found = {name: one for name in (*types, "bias") if (one := part(name)) is not None}
    if missing := [name for name in list(types)[:needed] if name not in found]:
        raise UserError(f"{' and '.join(missing)} of a layer {'is' if len(missing) == 1 else 'are'} missing")
    for name, allowed in types.items():
        if name in found and found[name].dtype not in allowed:
            kinds = " or ".join(str(kind).removeprefix("torch.") for kind in allowed)
            what = f"{name} of a layer of this kind is {kinds}"
            raise UserError(what, value=str(found[name].dtype).removeprefix("torch."))
    return found | ({"bias": found["bias"].float()} if "bias" in found else {})


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: FrozenMatrix) -> Tensor:
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


def scratch(rows: int, inputs: int, device: torch.device) -> Tensor:
    """Memory for a piece, the same every time: fresh memory costs a page fault for every 4 KiB."""
    store: dict[torch.device, Tensor] = vars(_scratches).setdefault("by_device", {})
    found = store.get(device)
    if found is None or found.numel() < rows * inputs:
        with torch.inference_mode(False):  # memory of inference may not be written to in training
            found = store[device] = torch.empty(rows * inputs, device=device)
    return found[: rows * inputs].view(rows, inputs)
