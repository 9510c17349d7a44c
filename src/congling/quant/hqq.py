"""HQQ (Badri & Shaji 2023): a grid fitted to the weights alone, on which large errors count little.

::

    minimise  Σ |W - value|^p  by turns:   We    = shrink(W - value)          the few large errors
                                           scale, zero = fit of W - We        a mean, now without outliers

The paper's zero is a real number. Formats that leave the house hold whole ones, so the scale is fitted with
it by least squares, and both are rounded as they are stored. Of all grids on the way, and that of round to
nearest, a group keeps the one whose Σ error² is least: cutting off a large weight costs more than p says.
"""

# O outputs, I inputs, G groups of a row, S columns of a group

import torch
from torch import Tensor

from congling.quant.config import HqqConfig
from congling.quant.grid import Grid, grid_of, stored_scales

_BETA, _KAPPA = 10.0, 1.01


def hqq(weight: Tensor, config: HqqConfig) -> tuple[Tensor, Grid]:
    """Codes (O, I) uint8 and the grid of a matrix (O, I), without any data.

    Raises:
        UserError: as ``grid_of``.
    """
    grid = grid_of(weight, config.bits, config.group_size, config.sym)
    groups = weight.detach().double().unflatten(-1, (-1, grid.group_size))  # (O, G, S)
    scales, middles = grid.scales.double(), grid.middles.double().expand_as(grid.scales)
    best_scales, best_middles = scales, middles
    least = _errors(groups, scales, middles, grid.highest)
    beta = _BETA / groups.abs().mean().clamp_min(1e-12)  # the paper's is for weights of size 1
    for _ in range(config.iterations):
        codes = _codes(groups, scales, middles, grid.highest)
        error = groups - (codes - middles[..., None]) * scales[..., None]
        target = groups - _shrunk(error, beta, config.lp_norm)
        beta *= _KAPPA
        scales, middles = _fitted(codes, target, scales, middles, grid)
        errors = _errors(groups, scales, middles, grid.highest)
        better = errors < least
        least = torch.where(better, errors, least)
        best_scales = torch.where(better, scales, best_scales)
        best_middles = torch.where(better, middles, best_middles)
    zeros = None if grid.zeros is None else best_middles.to(torch.uint8)
    found = Grid(best_scales.float(), zeros, grid.bits, grid.group_size)
    return found.code(weight), found


def _fitted(
    codes: Tensor, target: Tensor, scales: Tensor, middles: Tensor, grid: Grid
) -> tuple[Tensor, Tensor]:
    """Scales and zeros (O, G) that bring codes (O, G, S) nearest to target, one after the other."""
    if grid.zeros is not None:
        middles = (codes - target / scales[..., None]).mean(-1).round_().clamp_(0, grid.highest)
    offsets = codes - middles[..., None]
    mass = offsets.square().sum(-1)
    fitted = (offsets * target).sum(-1) / mass.clamp_min(1.0)
    fitted = torch.where((mass > 0) & (fitted * scales > 0), fitted, scales)
    return stored_scales(fitted), middles


def _codes(groups: Tensor, scales: Tensor, middles: Tensor, highest: int) -> Tensor:
    return (groups / scales[..., None] + middles[..., None]).round_().clamp_(0, highest)


def _errors(groups: Tensor, scales: Tensor, middles: Tensor, highest: int) -> Tensor:
    """(O, G): Σ error²."""
    values = (_codes(groups, scales, middles, highest) - middles[..., None]) * scales[..., None]
    return (groups - values).square().sum(-1)


def _shrunk(error: Tensor, beta: Tensor, power: float) -> Tensor:
    """The generalised soft threshold: what of the errors is left to the outliers."""
    size = error.abs()
    return error.sign() * (size - size.clamp_min(1e-30).pow(power - 1) / beta).relu_()
