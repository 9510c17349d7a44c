"""The grid: half a step at most, zero exact, scales of float16, and no shape or value that breaks it."""

from dataclasses import replace

import pytest
import torch

from congling.core.errors import UserError
from congling.quant.config import RtnConfig
from congling.quant.grid import grid_of
from congling.quant.rtn import round_to_nearest


def matrix(rows: int = 6, columns: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("group_size", [-1, 16, 32])
@pytest.mark.parametrize("sym", [False, True])
def test_weights_are_half_a_step_away_at_most(bits: int, group_size: int, sym: bool):
    weight = matrix()
    grid = grid_of(weight, bits, group_size, sym)
    codes = grid.code(weight)
    assert codes.dtype == torch.uint8 and int(codes.max()) <= grid.highest
    assert torch.equal(grid.scales, grid.scales.half().float())
    columns = 64 if group_size == -1 else group_size
    assert grid.scales.shape == (6, 64 // columns)
    step = grid.scales.repeat_interleave(columns, 1)
    # One end of a symmetric grid is a step below the largest weight at most, and where a zero is rounded both
    # ends move by half a step at most; float16 moves them by 2^-11 of their size.
    most = 1.0 + grid.highest * 2.0**-11
    assert ((grid.value(codes) - weight).abs() <= step.abs() * most).all()
    assert torch.equal(grid.code(grid.value(codes)), codes)  # what is stored is stored once more as it is


def test_known_codes():
    weight = torch.tensor([[-1.5, 0.0, 0.5, 1.5], [0.0, 1.0, 2.0, 3.0], [-3.0, -2.0, -1.0, 0.0]])
    grid = grid_of(weight, 2, -1, sym=False)
    assert grid.scales.tolist() == [[1.0], [1.0], [1.0]]
    assert grid.zeros is not None and grid.zeros.tolist() == [[2], [0], [3]]
    assert grid.code(weight).tolist() == [[0, 2, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3]]
    even = grid_of(weight, 2, -1, sym=True)
    assert even.zeros is None and even.scales.tolist() == [[0.75], [-1.5], [1.5]]
    assert even.code(weight).tolist() == [[0, 2, 3, 3], [2, 1, 1, 0], [0, 1, 1, 2]]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_symmetric_scales_lose_less_than_an_even_range(bits: int):
    weight = matrix(64, 64)
    even = 2 * weight.unflatten(1, (-1, 32)).abs().amax(-1) / (2**bits - 1)
    grid = grid_of(weight, bits, 32, sym=True)

    def lost(scales: torch.Tensor) -> torch.Tensor:
        other = replace(grid, scales=scales.half().float())
        return (other.value(other.code(weight)) - weight).square().unflatten(1, (-1, 32)).sum(-1)

    assert (lost(grid.scales) <= lost(even)).all()
    assert lost(grid.scales).sum() < 0.95 * lost(even).sum()
    assert (grid.scales < 0).any() and (grid.scales > 0).any()


@pytest.mark.parametrize("sym", [False, True])
def test_zero_is_zero_and_constant_rows_stay(sym: bool):
    weight = torch.zeros(4, 32)
    weight[1], weight[2], weight[3, 5] = 0.3, -2.0, 1e-9
    found = grid_of(weight, 4, 32, sym)
    values = found.value(found.code(weight))
    assert torch.isfinite(values).all()
    assert not values[0].any()
    if not sym:
        torch.testing.assert_close(values[1:3], weight[1:3], rtol=1e-3, atol=0)
    assert not values[3, :5].any()


@pytest.mark.parametrize("power", [-30, -9, -7.5, -6.5, -3, 3, 4.5, 5.5, 30])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("sym", [False, True])
def test_never_worse_than_the_range_whatever_the_size(power: float, bits: int, sym: bool):
    weight = matrix(3, 32) * 10.0**power
    try:
        codes, grid = round_to_nearest(weight, RtnConfig(bits=bits, group_size=16, sym=sym))
    except UserError:
        assert float(weight.abs().max()) > 60000  # no float16 is that large
        return
    values = grid.value(codes)
    assert torch.isfinite(values).all()
    assert (values - weight).abs().max() <= weight.abs().max() * 1.01 + 2.0**-20


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused(bad: float):
    weight = matrix()
    weight[2, 3] = bad
    with pytest.raises(UserError, match="not finite"):
        grid_of(weight, 4, 32, sym=False)


@pytest.mark.parametrize("group_size", [0, 40, 128])
def test_a_group_that_does_not_divide_is_refused_with_those_that_do(group_size: int):
    with pytest.raises(UserError, match="does not divide rows of 96 weights") as refused:
        grid_of(matrix(2, 96), 4, group_size, sym=False)
    assert refused.value.hint is not None and "16, 32, -1" in refused.value.hint
