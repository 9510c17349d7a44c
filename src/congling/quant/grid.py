"""A grid of equally spaced values for every group of a row's weights, and codes on it.

::

    value = scale · (code - zero)      code 0 … 2^bits - 1, one float16 scale and one zero a group

Scales are rounded to float16 before any code is chosen: what is stored is what was optimised.
"""

# O outputs (rows), I inputs (columns), G groups of a row

from dataclasses import dataclass

import torch
from torch import Tensor

from congling.core.errors import UserError

_SMALLEST = 2.0**-24
"""The least float16 above 0."""
_LARGEST = 65504.0


@dataclass(frozen=True)
class Grid:
    """Scales and zeros of a matrix (O, I)."""

    scales: Tensor
    """(O, G) float32, not 0, holding values of float16; below 0 where the lowest code is for the largest."""
    zeros: Tensor | None
    """(O, G) uint8 codes; None where all are in the middle, at 2^(bits - 1)."""
    bits: int
    group_size: int
    """Columns of a group; divides I."""

    @property
    def highest(self) -> int:
        """The largest code."""
        return 2**self.bits - 1

    @property
    def middles(self) -> Tensor:
        """(O, G) or (1, 1) float32: the codes that stand for 0."""
        return (
            self.scales.new_full((1, 1), 2.0 ** (self.bits - 1)) if self.zeros is None else self.zeros.float()
        )

    def code(self, weight: Tensor) -> Tensor:
        """Nearest codes of weights: (O, I) -> (O, I) uint8. Computed in float64, ties to even."""
        groups = weight.double().unflatten(-1, (-1, self.group_size))
        scales = self.scales.double()[..., None]
        codes = ((groups + scales * self.middles.double()[..., None]) / scales).round_()
        return codes.clamp_(0, self.highest).to(torch.uint8).flatten(-2)

    def value(self, codes: Tensor) -> Tensor:
        """What codes stand for: (O, I) uint8 -> (O, I) float32, exactly."""
        groups = codes.unflatten(-1, (-1, self.group_size))
        return (groups - self.middles[..., None]).mul_(self.scales[..., None]).flatten(-2)

    def rows(self, part: slice) -> "Grid":
        """That of some rows."""
        return Grid(
            self.scales[part], None if self.zeros is None else self.zeros[part], self.bits, self.group_size
        )


def grid_of(weight: Tensor, bits: int, group_size: int, sym: bool) -> Grid:
    """The grid whose ends are the extremes of each group (min-max), widened to hold 0.

    Symmetric: the zero in the middle, and of two scales the one whose nearest codes lose less: ``2 max|w| /
    (2^bits - 1)``, as GPTQ has it, or ``-w / 2^(bits - 1)`` of the largest weight w, which then has the
    lowest code, as in ggml's Q4_0 and in AutoRound. Else ``scale = (max - min) / (2^bits - 1)`` and ``zero =
    round(-min / scale)``. Groups of zeros alone get the scale 1.

    Args:
        weight: (O, I), finite.
        bits: of a code, at most 8.
        group_size: columns of a group, or -1 for whole rows.
        sym: whether zeros are in the middle.

    Raises:
        UserError: the group does not divide the row; values that are not finite or beyond float16's range.
    """
    groups = weight.detach().double().unflatten(-1, (-1, fitting_group(weight.shape[-1], group_size)))
    if not bool(torch.isfinite(groups).all()):
        raise UserError("weights that are not finite cannot be quantised")
    least, most = groups.amin(-1).clamp_max_(0), groups.amax(-1).clamp_min_(0)  # (O, G)
    reach = 2 * torch.maximum(-least, most) if sym else most - least
    scales = reach / (2**bits - 1)
    if bool((scales > _LARGEST).any()):
        raise UserError("weights of this size have no scale in float16", value=float(reach.max()))
    scales = stored_scales(scales).masked_fill_(reach == 0, 1.0)
    if sym:
        even = Grid(scales.float(), None, bits, groups.shape[-1])
        return _better(even, _uneven(groups, even), groups)
    zeros = (-least / scales).round_().clamp_(0, 2**bits - 1).to(torch.uint8)
    return Grid(scales.float(), zeros, bits, groups.shape[-1])


def _uneven(groups: Tensor, even: Grid) -> Grid:
    """The symmetric grid on which the largest weight of each group (O, G, columns) has the lowest code."""
    largest = groups.gather(-1, groups.abs().argmax(-1, keepdim=True)).squeeze(-1)
    scales = stored_scales(-largest / 2 ** (even.bits - 1))
    return Grid(torch.where(largest == 0, even.scales, scales.float()), None, even.bits, even.group_size)


def _better(one: Grid, other: Grid, groups: Tensor) -> Grid:
    """Of each group the scale whose nearest codes lose less."""
    weight = groups.flatten(-2)
    lost = [
        (grid.value(grid.code(weight)) - weight).square_().view_as(groups).sum(-1) for grid in (one, other)
    ]
    return Grid(torch.where(lost[1] < lost[0], other.scales, one.scales), None, one.bits, one.group_size)


def stored_scales(scales: Tensor) -> Tensor:
    """Scales as float16 holds them, no nearer to 0 than its smallest number: float64 to float64."""
    return scales.to(torch.float16).double().abs_().clamp_min_(_SMALLEST).copysign_(scales)


def fitting_group(inputs: int, group_size: int) -> int:
    """Columns of a group in rows of ``inputs`` columns.

    Raises:
        UserError: it does not divide them, with the sizes that do.
    """
    if group_size == -1:
        return inputs
    if group_size < 1 or inputs % group_size:
        fitting = [size for size in (16, 32, 64, 128, 256) if inputs % size == 0]
        sizes = ", ".join(map(str, [*fitting, -1]))
        what = f"a group of this size does not divide rows of {inputs} weights"
        raise UserError(
            what, where="group_size", value=group_size, hint=f"these do: {sizes} (-1: the whole row)"
        )
    return group_size
