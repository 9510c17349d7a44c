"""Layers of codes: the products and gradients of the matrix they stand for, and adapters on them."""

import pytest
import torch
from torch import nn

from congling.core.errors import UserError
from congling.quant import frozen
from congling.quant.coded import CodedLinear
from congling.quant.config import RtnConfig
from congling.quant.grid import Grid
from congling.quant.rtn import round_to_nearest
from congling.transform import lora
from congling.transform.config import AdapterConfig


def layer(sym: bool = False, bias: bool = True, bits: int = 4) -> CodedLinear:
    torch.manual_seed(0)
    codes, grid = round_to_nearest(torch.randn(12, 64), RtnConfig(bits=bits, group_size=16, sym=sym))  # type: ignore[arg-type]
    return CodedLinear(codes, grid, torch.randn(12) if bias else None)


@pytest.mark.parametrize("sym", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_products_and_gradients_are_those_of_the_dense_matrix(
    sym: bool, bias: bool, bits: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(frozen.PIECE_VALUES, "cpu", 150)  # two rows in a piece
    coded = layer(sym, bias, bits)
    dense = nn.Linear(64, 12, bias=bias)
    with torch.no_grad():
        dense.weight.copy_(coded.grid.value(coded.codes))
        if bias:
            dense.bias.copy_(coded.bias)
    assert torch.equal(coded.dense(), dense.weight)
    torch.testing.assert_close(coded.square_lengths(), dense.weight.square().sum(1))
    x = torch.randn(2, 3, 64, requires_grad=True)
    results = [(y := module(x), *torch.autograd.grad(y.sin().sum(), x)) for module in (coded, dense)]
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert not list(coded.parameters()) and not coded.state_dict()
    assert (coded.in_features, coded.out_features) == (64, 12)


@pytest.mark.parametrize("dora", [False, True])
def test_an_adapter_learns_on_codes(dora: bool):
    coded = layer()
    model = nn.ModuleDict({"query": coded})
    before = coded.dense()
    lora.attach(model, AdapterConfig(r=4, use_dora=dora, target_modules=("query",)))
    x, y = torch.randn(8, 64), torch.randn(8, 12)
    torch.testing.assert_close(model["query"](x), coded(x))
    steps = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], 0.01)
    losses = []
    for _ in range(5):
        loss = (model["query"](x) - y).square().mean()
        steps.zero_grad()
        loss.backward()
        steps.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert torch.equal(coded.dense(), before)


def test_what_no_quantiser_makes_is_refused():
    good = layer()
    codes, grid = good.codes, good.grid
    with pytest.raises(UserError, match="do not fit"):
        CodedLinear(codes[:, :60], grid)
    with pytest.raises(UserError, match="do not fit"):
        CodedLinear(codes, Grid(grid.scales[:, :2], grid.zeros, 4, 16))
    for wrong in (float("nan"), float("inf")):
        scales = grid.scales.clone()
        scales[3, 1] = wrong
        with pytest.raises(UserError, match="are finite"):
            CodedLinear(codes, Grid(scales, grid.zeros, 4, 16))
    with pytest.raises(UserError, match="go to 3"):
        CodedLinear(codes, Grid(grid.scales, grid.zeros, 2, 16))
