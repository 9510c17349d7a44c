"""Codes in ggml's blocks as they are: what blocks decode to is what the layer multiplies with, to the bit."""

import numpy as np
import pytest
import torch
from torch import Tensor

from congling.quant import ggml
from congling.quant.as_blocks import TYPES, Codes, codes_of
from congling.quant.coded import CodedLinear
from congling.quant.grid import Grid, grid_of
from congling.quant.int8 import int8_linear
from congling.quant.onebit import OneBitLinear, pack_signs


def coded(bits: int, group: int, *, sym: bool, inputs: int = 256) -> CodedLinear:
    weight = torch.randn(6, inputs, generator=torch.Generator().manual_seed(bits))
    weight[1] = 0
    grid = grid_of(weight, bits, group, sym)
    codes = grid.code(weight)
    codes[0] = torch.arange(inputs) % (grid.highest + 1)  # every code, the lowest too
    return CodedLinear(codes, grid)


def found(layer: CodedLinear | OneBitLinear) -> Codes:
    codes = codes_of(layer)
    assert codes is not None
    return codes


def decoded(codes: Codes, type: str) -> Tensor:
    return torch.from_numpy(ggml.decode(codes.blocks(type), type))


@pytest.mark.parametrize("group", [32, 64, 128, -1])
@pytest.mark.parametrize(
    ("bits", "sym", "smallest"),
    [(2, True, "Q4_0"), (2, False, "Q4_0"), (3, True, "Q4_0"), (3, False, "Q4_0"), (4, True, "Q4_0"),
     (4, False, "Q5_0"), (8, True, "Q8_0")],
)  # fmt: skip
def test_the_smallest_exact_type_decodes_to_the_layers_weights(
    bits: int, sym: bool, smallest: str, group: int
):
    layer = coded(bits, group, sym=sym)
    codes = found(layer)
    exact = [type for type in TYPES if codes.miss(type) == 0.0]
    assert exact[0] == smallest
    for type in exact:
        assert torch.equal(decoded(codes, type), layer.dense()), type


def test_signs_of_one_magnitude_are_exact_in_every_type():
    signs = torch.randn(5, 512, generator=torch.Generator().manual_seed(0))
    layer = OneBitLinear(pack_signs(signs), torch.tensor([0.1, 0.02, 3, 1e-4, 0]).half(), inputs=512)
    for type in TYPES:
        assert found(layer).miss(type) == 0.0
        assert torch.equal(decoded(found(layer), type), layer.dense()), type


def test_minima_are_rounded_and_the_largest_difference_is_told():
    layer = coded(4, 32, sym=False)
    codes = found(layer)
    off = codes.miss("Q4_1")
    seen = float((decoded(codes, "Q4_1") - layer.dense()).abs().max())
    assert (
        off is not None
        and 0 < off < 2e-2 * float(layer.scales.max())
        and seen == pytest.approx(off, rel=1e-3)
    )
    whole = Grid(layer.scales, torch.full_like(layer.zeros, 8), 4, 32)  # type: ignore[arg-type]
    power = found(CodedLinear(layer.codes, whole))
    assert power.miss("Q4_1") == 0.0 and torch.equal(decoded(power, "Q4_1"), whole.value(layer.codes))


def test_what_no_block_holds_is_told_apart():
    eight = found(coded(8, 32, sym=False))
    assert [type for type in TYPES if eight.miss(type) is not None] == []
    narrow = found(coded(4, 16, sym=True))  # two scales in a block
    assert [type for type in TYPES if narrow.miss(type) is not None] == []
    assert (
        found(coded(2, 128, sym=True)).miss("TQ2_0") is None
        and found(coded(4, 32, sym=True)).miss("Q4_K") is None
    )
    huge = Grid(torch.full((6, 8), 60000.0), torch.full((6, 8), 15, dtype=torch.uint8), 4, 32)
    assert found(CodedLinear(torch.full((6, 256), 15, dtype=torch.uint8), huge)).miss("Q4_1") is None
    ours = coded(4, 32, sym=True)
    assert codes_of(CodedLinear(ours.codes, Grid(ours.scales + 1e-5, None, 4, 32))) is None
    assert codes_of(int8_linear(torch.randn(4, 64), None, 0.0)) is None
    with_norm = OneBitLinear(
        torch.zeros(4, 8, dtype=torch.uint8), torch.ones(4).half(), torch.ones(64).half(), inputs=64
    )
    assert codes_of(with_norm) is None


def test_scales_below_zero_and_the_least_there_are():
    scales = torch.tensor([[-0.5, 2.0**-24]] * 2)
    layer = CodedLinear(torch.randint(0, 16, (2, 64), dtype=torch.uint8), Grid(scales, None, 4, 32))
    assert np.array_equal(decoded(found(layer), "Q4_0").numpy(), layer.dense().numpy())
