"""Layers in int8: exact sums, outliers apart, no token changed by another, gradients, and what is refused."""

import pytest
import torch

from congling.core.errors import UserError
from congling.quant.int8 import EXACT_INPUTS, Int8Linear, int8_linear, int8_rows, outlier_columns
from congling.transform import lora
from congling.transform.config import AdapterConfig


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_hand(x, codes, scales):
    """The product in float64, from integers."""
    most = x.double().abs().amax(1, keepdim=True)
    tokens = (x * (127 / most.float())).round().double()
    return tokens @ codes.double().T * most * scales.double() / 127**2


@pytest.mark.parametrize("channels", [48, EXACT_INPUTS, EXACT_INPUTS + 1, 3000])
def test_the_integer_product_is_exact(channels: int):
    weight, x = numbers(5, channels), numbers(7, channels, seed=1)
    weight[0], x[0] = 1, 1  # the largest sum that there can be
    layer = int8_linear(weight, None, 0.0)
    expected = by_hand(x, layer.codes, layer.scales)
    assert (layer(x).double() / expected - 1).abs().max() < 3e-7


def test_codes_and_scales_are_those_of_the_row():
    codes, scales = int8_rows(torch.tensor([[1.0, -2.0, 0.5], [0, 0, 0]]))
    assert codes.tolist() == [[64, -127, 32], [0, 0, 0]] and scales.tolist() == [2, 0]
    layer = int8_linear(torch.zeros(2, 3), None, 6.0)
    assert layer(torch.zeros(4, 3)).eq(0).all() and layer(torch.full((4, 3), 9.0)).eq(0).all()


def test_columns_found_in_calibration_keep_their_weights():
    weight, x = numbers(16, 32), numbers(20, 32, seed=1)
    x[:, [3, 17]] *= 60
    layer = int8_linear(weight, None, 6.0, x.abs().amax(0))
    assert layer.outliers.tolist() == [3, 17] == outlier_columns(x.abs().amax(0), 6.0).tolist()
    assert torch.equal(layer.dense()[:, [3, 17]], weight[:, [3, 17]].half().float())
    exact = x @ weight.T
    plain, codes_only = int8_linear(weight, None, 0.0), int8_linear(weight, None, 6.0)
    errors = [float((one(x) - exact).norm()) for one in (layer, codes_only, plain)]
    assert errors[0] < errors[1] / 5 < errors[2] / 10


def test_inputs_that_are_large_for_the_first_time_do_not_swallow_the_others():
    weight, x = numbers(16, 32), numbers(20, 32, seed=1)
    layer = int8_linear(weight, None, 6.0, x.abs().amax(0))
    assert not len(layer.outliers)
    x[4, 9] = 1e6
    error = (layer(x) - x @ layer.dense().T)[4] / 1e6
    assert error.abs().max() < 1e-6


@pytest.mark.parametrize("threshold", [0.0, 6.0])
def test_no_token_changes_another(threshold: float):
    weight, x = numbers(16, 32), numbers(20, 32, seed=1)
    x[3, 7], x[:, 30] = 50, 40
    layer = int8_linear(
        weight, numbers(16, seed=3), threshold, numbers(32).abs() + (torch.arange(32) == 30) * 9
    )
    together = layer(x)
    alone = torch.cat([layer(row[None]) for row in x])
    assert (together - alone).abs().max() <= 1e-6 * together.abs().max()
    assert torch.equal(layer(x.view(4, 5, 32)), together.view(4, 5, 16))


def test_as_bitsandbytes_the_batch_decides():
    weight, x = numbers(16, 32), numbers(20, 32, seed=1)
    x[3, 7] = 50
    layer = Int8Linear(*int8_rows(weight), whole_batch=True)
    together = layer(x)
    assert (together[0] - layer(x[:1])[0]).abs().max() > 1e-5  # column 7 left the int8 product for all


def test_gradients_are_those_of_the_dense_matrix_and_adapters_learn():
    weight, x = numbers(6, 8), numbers(5, 8, seed=1).requires_grad_()
    layer = int8_linear(weight, numbers(6, seed=2), 6.0, torch.arange(8.0))
    layer(x).square().sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, 2 * layer(x).detach() @ layer.dense(), rtol=1e-5, atol=1e-5)
    model = torch.nn.Sequential()
    model.add_module("query", layer)
    lora.attach(model, AdapterConfig(target_modules=("query",), r=2))
    with torch.no_grad():
        for name, one in model.named_parameters():
            one.copy_(numbers(*one.shape, seed=len(name)))
    found = model(x.detach())
    assert not torch.allclose(found, layer(x.detach()))
    found.square().sum().backward()
    assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in model.parameters())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e5])
def test_weights_that_cannot_be_rounded_are_refused(value: float):
    weight = numbers(4, 8)
    weight[2, 3] = value
    with pytest.raises(UserError, match="int8"):
        int8_rows(weight)


@pytest.mark.parametrize(
    "parts",
    [
        {"scales": torch.ones(3)},
        {"scales": torch.tensor([1.0, float("nan")])},
        {"scales": torch.tensor([1.0, float("nan")])},
        {"outliers": torch.tensor([1, 4])},
        {"outliers": torch.tensor([-1, 2])},
        {"outliers": torch.tensor([2, 1])},
        {"outliers": torch.tensor([1, 1])},
        {"outliers": torch.tensor([1])},
        {"outlier_weight": torch.full((2, 2), float("inf")).half()},
    ],
)
def test_parts_that_lie_are_refused(parts: dict[str, torch.Tensor]):
    good = {
        "scales": torch.ones(2),
        "outliers": torch.tensor([0, 2]),
        "outlier_weight": torch.ones(2, 2).half(),
    }
    codes = torch.zeros(2, 4, dtype=torch.int8)
    Int8Linear(codes, **good)
    with pytest.raises(UserError):
        Int8Linear(codes, **(good | parts))
