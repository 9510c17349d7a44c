"""AWQ: never worse than rounding alone where it looked, finds a plant, narrows the ranges that gain by it."""

import pytest
import torch

from congling.model.families import FAMILIES
from congling.quant.awq import CLIPS, Reader, awq_scales, clipped
from congling.quant.config import AwqConfig
from congling.quant.folding import Folding, foldings
from congling.quant.gptq import gptq
from congling.quant.rtn import round_to_nearest

CONFIG = AwqConfig(bits=4, group_size=16)


def inputs(channels: int, seed: int = 0, tokens: int = 200) -> torch.Tensor:
    """(N, I) correlated, some channels much larger than others."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(tokens, channels, generator=generator) @ torch.randn(
        channels, channels, generator=generator
    )
    return mixed * (2 * torch.randn(channels, generator=generator)).exp() / channels**0.5


def weights(outputs: int, channels: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(outputs, channels, generator=torch.Generator().manual_seed(seed)) / channels**0.5


def plain(channels: int) -> Folding:
    return Folding("a", ("b",), channels)


def rounded(weight, config=CONFIG):
    codes, grid = round_to_nearest(weight, config)
    return grid.value(codes)


def loss(found, weight, x):
    return float(((found - weight) @ x.T).double().square().sum())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_scales_lose_less_than_rounding_alone(seed: int, bits: int):
    config = AwqConfig(bits=bits, group_size=16)
    x, readers = inputs(64, seed), [weights(24, 64, seed), weights(8, 64, seed + 50)]
    scales = awq_scales([Reader(w, x.T @ x) for w in readers], x.abs().mean(0), plain(64), config)
    alone = sum(loss(rounded(w, config), w, x) for w in readers)
    scaled = sum(loss(rounded(w * scales, config) / scales, w, x) for w in readers)
    assert (scales > 0).all() and scales.isfinite().all()
    assert scaled < 0.8 * alone  # channels differ by e², so that there is much to gain


@pytest.mark.parametrize("seed", range(4))
def test_before_gptq_the_scales_are_those_that_it_loses_least_with(seed: int):
    config = AwqConfig(bits=3, group_size=16, rounding="gptq")
    x, weight = inputs(64, seed).double(), weights(96, 64, seed)

    def left(scales: torch.Tensor) -> float:
        scaled = x / scales
        found = gptq(weight * scales, scaled.T @ scaled, config)
        return loss(found.grid.value(found.codes) / scales, weight, x.float())

    readers, mean_abs = [Reader(weight, x.T @ x)], x.abs().mean(0)
    scales = awq_scales(readers, mean_abs, plain(64), config)
    others = awq_scales(readers, mean_abs, plain(64), config.replace(rounding="rtn"))
    assert left(scales) < min(0.9 * left(torch.ones(64)), 1.05 * left(others))  # others are twice as many


def test_no_scale_is_taken_where_none_is_better():
    weight = rounded(weights(8, 32))  # lies on a grid: rounding it loses nothing
    x = inputs(32)
    scales = awq_scales([Reader(weight, x.T @ x)], x.abs().mean(0), plain(32), CONFIG)
    assert scales.eq(1).all()


def test_a_plant_is_found():
    x, weight = inputs(64) / inputs(64).std(0), weights(256, 64)
    factors = torch.ones(64)
    factors[[3, 40]] = 60
    config = AwqConfig(bits=4, group_size=32)
    found = [
        awq_scales([Reader(w, y.T @ y)], y.abs().mean(0), plain(64), config)
        for w, y in ((weight, x), (weight / factors, x * factors))
    ]
    ratio = found[1] / found[0]
    ratio /= ratio[factors == 1].median()  # scales are known but for a factor common to all
    assert (ratio[factors != 1] / 60 - 1).abs().max() < 0.02
    lost = [
        loss(rounded(w * s, config) / s, w, y)
        for w, y, s in zip((weight, weight / factors), (x, x * factors), found, strict=True)
    ]
    assert lost[1] < 1.05 * lost[0]
    assert loss(rounded(weight / factors, config), weight / factors, x * factors) > 5 * lost[0]


def test_heads_that_share_values_get_one_scale():
    sizes = {"vocab_size": 96, "max_position_embeddings": 64, "num_hidden_layers": 1, "hidden_size": 64}
    output = foldings(FAMILIES["mistral"](**sizes, num_attention_heads=4, num_key_value_heads=2), 0)[1]
    assert isinstance(output, Folding)
    x, weight = inputs(64), weights(64, 64)
    scales = awq_scales([Reader(weight, x.T @ x)], x.abs().mean(0), output, CONFIG)
    assert scales.shape == (32,)
    columns = output.columns(scales)
    assert loss(rounded(weight * columns) / columns, weight, x) < loss(rounded(weight), weight, x)


def test_dead_channels_and_dead_inputs():
    x, weight = inputs(64), weights(24, 64)
    x[:, 5], weight[:, 9] = 0, 0
    scales = awq_scales([Reader(weight, x.T @ x)], x.abs().mean(0), plain(64), CONFIG)
    assert scales[[5, 9]].tolist() == [1, 1] and not scales.eq(1).all()
    nothing = awq_scales([Reader(weight, torch.zeros(64, 64))], torch.zeros(64), plain(64), CONFIG)
    assert nothing.eq(1).all()


def test_clipping_loses_less_and_cuts_what_it_says():
    generator = torch.Generator().manual_seed(3)
    weight, x = torch.randn(32, 64, generator=generator), torch.randn(300, 64, generator=generator)
    config = AwqConfig(bits=2, group_size=32)
    found = clipped(weight, x.T @ x, config)
    assert loss(rounded(found, config), weight, x) < 0.75 * loss(rounded(weight, config), weight, x)
    reach = weight.unflatten(1, (2, 32)).abs().amax(-1)
    shares = found.unflatten(1, (2, 32)).abs().amax(-1) / reach
    assert all(min(abs(float(share) - one) for one in (1, *CLIPS)) < 1e-6 for share in shares.flatten())
    inside = found.abs() < (shares * reach).repeat_interleave(32, 1) * (1 - 1e-6)
    assert torch.equal(found[inside], weight[inside])


def test_nothing_is_cut_where_it_would_cost():
    weight = torch.tensor([[1.0, -1.0] * 16])
    assert torch.equal(clipped(weight, torch.eye(32), AwqConfig(bits=4, group_size=32)), weight)
