"""Linear layers whose weights are codes on a grid: what RTN, GPTQ, AWQ and HQQ make."""

# O outputs, I inputs, G groups of a row

import torch
from torch import Tensor

from congling.core.errors import UserError
from congling.quant.frozen import FrozenLinear
from congling.quant.grid import Grid


class CodedLinear(FrozenLinear):
    """A linear layer that cannot be trained, from codes and their grid; adapters work on it.

    Attributes:
        codes: (O, I) uint8.
        scales: (O, G) float32, holding values of float16.
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

    def values(self, part: slice) -> Tensor:
        """Some rows: float32."""
        return self.grid.rows(part).value(self.codes[part])

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
