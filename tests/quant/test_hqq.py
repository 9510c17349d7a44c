"""HQQ: no data, never a grid that loses more than round to nearest, and less where outliers stretch it."""

import pytest
import torch

from congling.quant.config import HqqConfig
from congling.quant.hqq import hqq
from congling.quant.rtn import round_to_nearest


@pytest.mark.parametrize("sym", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_it_loses_less_than_nearest_where_there_are_outliers(bits: int, sym: bool, size: float):
    weight = torch.randn(8, 64, generator=torch.Generator().manual_seed(0)) * size
    weight[:, ::32] *= 4
    config = HqqConfig(bits=bits, group_size=32, sym=sym)  # type: ignore[arg-type]
    codes, grid = round_to_nearest(weight, config)
    own, fitted = hqq(weight, config)
    assert torch.equal(fitted.scales, fitted.scales.half().float()) and torch.equal(fitted.code(weight), own)
    before, after = ((one - weight).square().sum() for one in (grid.value(codes), fitted.value(own)))
    assert after < before


def test_zeros_and_constant_rows_stay_what_they_are():
    weight = torch.zeros(3, 32)
    weight[1] = 0.25
    codes, grid = hqq(weight, HqqConfig(group_size=32))
    torch.testing.assert_close(grid.value(codes), weight, rtol=1e-3, atol=0)
