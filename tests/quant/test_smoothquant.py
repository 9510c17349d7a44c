"""SmoothQuant's scales: the formula, dead channels, and the exact answer to a planted outlier."""

import pytest
import torch

from congling.quant.smoothquant import smoothing_scales


def test_the_scale_is_the_quotient_of_the_largest_values():
    weights = [torch.tensor([[1.0, -4.0], [2.0, 1.0]]), torch.tensor([[-8.0, 0.5]])]
    scales = smoothing_scales(torch.tensor([2.0, 9.0]), weights, 0.5)
    assert torch.allclose(scales, torch.tensor([2.0 / 8, 9.0 / 4]).sqrt())
    assert torch.allclose(smoothing_scales(torch.tensor([2.0, 9.0]), weights, 1.0), torch.tensor([2.0, 9.0]))
    assert torch.allclose(
        smoothing_scales(torch.tensor([2.0, 9.0]), weights, 0.0), torch.tensor([1 / 8, 1 / 4])
    )


@pytest.mark.parametrize("strength", [0.0, 0.3, 0.5, 0.85, 1.0])
def test_a_plant_gets_its_factor_whatever_the_strength(strength: float):
    generator = torch.Generator().manual_seed(0)
    weight, largest = torch.randn(6, 8, generator=generator), torch.rand(8, generator=generator) + 0.1
    plain = smoothing_scales(largest, [weight], strength)
    factors = torch.ones(8)
    factors[[2, 5]] = 60
    planted = smoothing_scales(largest * factors, [weight / factors], strength)
    assert torch.allclose(planted / plain, factors, rtol=1e-6)


def test_channels_that_are_dead_are_left_alone():
    weight = torch.ones(3, 4)
    weight[:, 2] = 0
    scales = smoothing_scales(torch.tensor([4.0, 0.0, 4.0, 4.0]), [weight], 0.5)
    assert scales.tolist() == [2, 1, 1, 2]
