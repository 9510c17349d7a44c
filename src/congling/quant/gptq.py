"""GPTQ (Frantar et al. 2022): codes chosen column by column, so that later columns repair earlier errors.

The grid is that of round to nearest, fixed before the first code (static groups): columns may then go in the
order of the Hessian's diagonal, and the codes fit every format. Rows on which the result loses to round to
nearest, as it may with a handful of samples, keep their nearest codes.
"""

# O outputs, I inputs

from typing import NamedTuple

import torch
from torch import Tensor

from congling.quant.config import GptqConfig, GridConfig
from congling.quant.feedback import Columns, codes_with_feedback, output_error
from congling.quant.grid import Grid, grid_of


class Rounding(NamedTuple):
    """Codes, and what had to be done for them."""

    codes: Tensor
    """(O, I) uint8."""
    grid: Grid
    damp_percent: float
    """What was added to the Hessian in the end, as a share of its mean diagonal."""
    nearest_rows: int
    """Rows that kept their nearest codes."""


def gptq(weight: Tensor, gram: Tensor, config: GridConfig, damp_percent: float | None = None) -> Rounding:
    """Codes of a matrix that make its outputs, not its weights, come out near.

    Args:
        weight: (O, I).
        gram: (I, I) float64: 2/n · Σ xxᵀ over the layer's inputs.
        config: bits and groups.
        damp_percent: by default that of the configuration.

    Raises:
        UserError: as ``grid_of``; a gram that is not finite, or that no damping helps.
    """
    grid = grid_of(weight, config.bits, config.group_size, config.sym)
    codes = grid.code(weight)
    if damp_percent is None:
        damp_percent = config.damp_percent if isinstance(config, GptqConfig) else 0.01
    exact = weight.detach().double()
    better, damp = codes_with_feedback(exact, gram, columns_of(grid, codes), damp_percent)
    found = better.to(torch.uint8)
    worse = output_error(exact, grid.value(found), gram) > output_error(exact, grid.value(codes), gram)
    return Rounding(torch.where(worse[:, None], codes, found), grid, damp, int(worse.sum()))


def columns_of(grid: Grid, codes: Tensor) -> Columns:
    """A grid of groups as one of single weights, in float64; ``codes`` (O, I) are kept where nothing else can
    be."""
    scale = grid.scales.double().repeat_interleave(grid.group_size, 1)
    middle = grid.middles.double().expand_as(grid.scales).repeat_interleave(grid.group_size, 1)
    return Columns(scale, scale * middle, 0, grid.highest, codes)
