"""AWQ (Lin et al. 2023): columns that meet large inputs are scaled up before rounding, and so lose less.

::

    scale_j = x̄_j^α / w̄_j^(1 - α)        x̄ mean |input|, w̄ mean of |weight| / the largest of its group
    least over α = 0, 1/20 … 19/20 and no scale at all:  Σ ‖(round(W · scale) / scale - W) X‖²

The error of all matrices that read the inputs is a sum over their Gram matrix, so that no input is kept. No
scale at all is among the choices: on the calibration text the result is never worse than rounding alone.
Afterwards the range of each group is narrowed where that loses less (``clipped``).

Where GPTQ rounds afterwards its own error is asked instead, on some rows: scales and narrowed ranges that are
best for rounding to nearest are worse for GPTQ than none.
"""

# O outputs, I inputs, G groups of a row, g columns of a group, S scales

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from congling.quant.config import TRIED, TRIED_ROWS, AwqConfig, GridConfig
from congling.quant.folding import Folding
from congling.quant.gptq import gptq, output_error
from congling.quant.grid import fitting_group
from congling.quant.rtn import round_to_nearest

ALPHAS = tuple(step / 20 for step in range(20))
CLIPS = tuple(1 - step / 20 for step in range(1, 10))
"""Shares of its range that are tried for each group besides the whole."""


class Reader(NamedTuple):
    """One of the matrices that read a tensor, and what it reads."""

    weight: Tensor
    """(O, I)."""
    gram: Tensor
    """(I, I) Σ x xᵀ over its inputs, by any factor that is the same for all readers."""


def awq_scales(readers: Sequence[Reader], mean_abs: Tensor, folding: Folding, config: AwqConfig) -> Tensor:
    """What each channel is divided by, and its columns multiplied by, before they are rounded.

    Args:
        readers: all matrices that read the tensor and will be quantised.
        mean_abs: (I,) mean |x| of each channel.
        folding: which columns share a scale.
        config: the grid that they are rounded on, and how.

    Returns:
        (S,) positive and finite: 1 where no scale is better, and for channels that are 0 throughout.

    Raises:
        UserError: the weights cannot be rounded on this grid.
    """
    error_of = (_error_of_gptq if config.rounding == "gptq" else _error_of_rtn)(readers, config)
    sizes = torch.cat([_relative_sizes(reader.weight, config.group_size) for reader in readers]).mean(0)
    inputs, columns = folding.shared(mean_abs).double(), folding.shared(sizes).double()
    alive = (inputs > 0) & (columns > 0)
    best = torch.ones(len(inputs))
    least = error_of(folding.columns(best))
    if not alive.any():
        return best
    for alpha in ALPHAS[:: len(ALPHAS) // (TRIED - 1) if config.rounding == "gptq" else 1]:
        scales = inputs.where(alive, 1) ** alpha / columns.where(alive, 1) ** (1 - alpha)
        scales /= (scales[alive].max() * scales[alive].min()).sqrt()
        scales = scales.where(alive, 1).float()
        error = error_of(folding.columns(scales))
        if error < least:
            best, least = scales, error
    return best


def clipped(weight: Tensor, gram: Tensor, config: GridConfig) -> Tensor:
    """The matrix (O, I) with every group of a row cut to the range that loses least when it is rounded.

    A narrower range has finer steps: a few large weights lose, all others gain. What counts is what a group
    by itself adds to the output. Not for queries and keys, whose errors multiply: AWQ leaves them whole.

    Args:
        weight: (O, I).
        gram: (I, I) Σ x xᵀ over its inputs.
        config: the grid.

    Raises:
        UserError: the weights cannot be rounded on this grid.
    """
    size = fitting_group(weight.shape[1], config.group_size)
    weight = weight.detach()
    blocks = torch.stack(
        [gram[start : start + size, start : start + size] for start in range(0, len(gram), size)]
    ).to(weight)  # (G, g, g)
    reach = weight.unflatten(1, (-1, size)).abs().amax(-1, keepdim=True)  # (O, G, 1)
    best, least = weight.clone(), _group_errors(weight, weight, blocks, config)
    for share in CLIPS:
        narrow = weight.unflatten(1, (-1, size)).clamp(-share * reach, share * reach).flatten(1)
        error = _group_errors(narrow, weight, blocks, config)
        better = (error < least).repeat_interleave(size, 1)
        best, least = narrow.where(better, best), torch.minimum(error, least)
    return best


def _relative_sizes(weight: Tensor, group_size: int) -> Tensor:
    """(O, I) |weights| as a share of the largest of their group, from 0 to 1."""
    groups = weight.detach().abs().unflatten(1, (-1, fitting_group(weight.shape[1], group_size)))
    return (groups / groups.amax(-1, keepdim=True).clamp_min(torch.finfo(groups.dtype).tiny)).flatten(1)


def _error_of_rtn(readers: Sequence[Reader], config: GridConfig) -> Callable[[Tensor], float]:
    """‖(round(W · columns) / columns - W) X‖² of all readers together, by columns (I,)."""

    def error(columns: Tensor) -> float:
        total = 0.0
        for weight, gram in readers:
            codes, grid = round_to_nearest(weight.detach() * columns, config)
            lost = grid.value(codes) / columns - weight.detach()
            total += float(((lost @ gram.to(lost)) * lost).sum(dtype=torch.float64))
        return total

    return error


def _error_of_gptq(readers: Sequence[Reader], config: GridConfig) -> Callable[[Tensor], float]:
    """The same error as GPTQ leaves it, on some rows of those that read the same inputs, by columns (I,)."""
    inputs = {id(reader.gram): reader.gram for reader in readers}
    rows = {
        name: torch.cat([reader.weight.detach() for reader in readers if id(reader.gram) == name])
        for name in inputs
    }
    step = max(1, sum(map(len, rows.values())) // TRIED_ROWS)

    def error(columns: Tensor) -> float:
        columns, total = columns.double(), 0.0
        for name, gram in inputs.items():
            weight, scaled = rows[name][::step] * columns, gram / columns.outer(columns)
            found = gptq(weight, scaled, config)
            total += float(output_error(weight, found.grid.value(found.codes), scaled).sum())
        return total

    return error


def _group_errors(narrow: Tensor, weight: Tensor, blocks: Tensor, config: GridConfig) -> Tensor:
    """(O, G) what rounding the narrowed weights adds to the output, each group on its own."""
    codes, grid = round_to_nearest(narrow, config)
    lost = (grid.value(codes) - weight).unflatten(1, (len(blocks), -1)).transpose(0, 1)  # (G, O, g)
    return ((lost @ blocks) * lost).sum(-1).T
