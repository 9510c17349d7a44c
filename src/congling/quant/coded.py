"""Linear layers whose weights are codes on a grid: what RTN, GPTQ, AWQ and HQQ make."""

# O outputs, I inputs, G groups of a row

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor

from congling.core.errors import UserError
from congling.quant.bits import pack_bits, unpack_bits
from congling.quant.frozen import FrozenLinear, stored_parts
from congling.quant.grid import Grid

_TYPES = {"codes": (torch.uint8,), "scales": (torch.float16, torch.float32), "zeros": (torch.uint8,)}


class CodedLinear(FrozenLinear):
    """A linear layer that cannot be trained, from codes and their grid; adapters work on it.

    Attributes:
        codes: (O, I) uint8.
        scales: (O, G) float32; values of float16 in all that is made here.
        zeros: (O, G) uint8, or None where all are in the middle.
        bias: (O,) float32 or None.
    """

    codes: Tensor
    scales: Tensor
    zeros: Tensor | None

    def __init__(self, codes: Tensor, grid: Grid, bias: Tensor | None = None) -> None:
        """Raises UserError: codes and grid do not fit each other, or hold what no quantiser makes."""
        _check(codes, grid)
        super().__init__(codes.shape[0], codes.shape[1], bias)
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("scales", grid.scales, persistent=False)
        self.register_buffer("zeros", grid.zeros, persistent=False)
        self.bits, self.group_size = grid.bits, grid.group_size

    @property
    def grid(self) -> Grid:
        """Scales and zeros."""
        return Grid(self.scales, self.zeros, self.bits, self.group_size)

    @property
    def half_scales(self) -> bool:
        """Whether float16 holds all scales: those of other programs may be any float32."""
        return torch.equal(self.scales.half().float(), self.scales)

    def values(self, part: slice) -> Tensor:
        """Some rows: float32."""
        return self.grid.rows(part).value(self.codes[part])

    def stored(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Bits and group size, and the parts as a file holds them: codes packed, scales in as few bytes."""
        scales = self.scales.half() if self.half_scales else self.scales
        parts = {"codes": pack_bits(self.codes, self.bits), "scales": scales, "zeros": self.zeros}
        parts |= {"bias": self.bias}
        found = {name: part for name, part in parts.items() if part is not None}
        return {"bits": self.bits, "group_size": self.group_size}, found

    @classmethod
    def restored(
        cls, facts: Mapping[str, Any], part: Callable[[str], Tensor | None], shape: tuple[int, int]
    ) -> Self:
        """The layer again.

        Raises:
            UserError: parts are missing or do not fit, or hold what no quantiser makes.
        """
        bits, size = facts.get("bits"), facts.get("group_size")
        if type(bits) is not int or not 1 <= bits <= 8 or type(size) is not int or size < 1:
            raise UserError("bits and group size are whole numbers", value=f"{bits}, {size}")
        found = stored_parts(part, _TYPES, needed=2)
        grid = Grid(found["scales"].float(), found.get("zeros"), bits, size)
        return cls(unpack_bits(found["codes"], bits, shape), grid, found.get("bias"))

    def extra_repr(self) -> str:
        """Shape and bits, as ``print(model)`` shows them."""
        return f"{self.inputs}, {self.rows}, bits={self.bits}, group_size={self.group_size}"


def _check(codes: Tensor, grid: Grid) -> None:
    groups = (codes.shape[0], codes.shape[1] // max(1, grid.group_size))
    zeros = grid.scales if grid.zeros is None else grid.zeros
    if (
        codes.shape[1] % max(1, grid.group_size)
        or tuple(grid.scales.shape) != groups
        or zeros.shape != groups
    ):
        what = "codes, scales and zeros of a layer do not fit each other"
        raise UserError(what, value=f"{tuple(codes.shape)}, {tuple(grid.scales.shape)}, {tuple(zeros.shape)}")
    if not bool(torch.isfinite(grid.scales).all()):  # AutoRound has scales below 0, to use the lowest code
        raise UserError("scales of a quantised layer are finite")
    for part in (codes, *(() if grid.zeros is None else (grid.zeros,))):
        if part.numel() and int(part.max()) > grid.highest:
            raise UserError(f"codes of {grid.bits} bits go to {grid.highest}", value=int(part.max()))
