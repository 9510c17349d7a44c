"""Chunked output layer and cross-entropy against the plain one."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from congling.train.objectives import cross_entropy as chunked
from congling.train.objectives.chunks import ChunkSize
from congling.train.objectives.cross_entropy import dense_cross_entropy, linear_cross_entropy


@pytest.fixture(autouse=True)
def several_chunks(monkeypatch):
    monkeypatch.setattr(chunked, "DENSE_CHUNK", ChunkSize({"cpu": 16 * 50}, 16))


def case(dtype=torch.float32):
    torch.manual_seed(0)
    hidden = torch.randn(3, 15, 24, dtype=dtype, requires_grad=True)
    layer = nn.Linear(24, 50, bias=False, dtype=dtype)
    nn.init.normal_(layer.weight)
    return hidden, layer, torch.randint(0, 50, (3, 15)), torch.rand(3, 15, dtype=dtype).round(decimals=1)


@pytest.mark.parametrize("masked", [False, True])
def test_equals_the_plain_loss_and_its_gradients(masked):
    hidden, layer, targets, weights = case()
    each = cross_entropy(layer(hidden).flatten(0, 1), targets.flatten(), reduction="none")
    plain = (each * weights.flatten()).sum() if masked else each.sum()
    expected = torch.autograd.grad(plain / 7, (hidden, layer.weight))
    found = linear_cross_entropy(hidden, layer, targets, weights if masked else None)
    gradients = torch.autograd.grad(found / 7, (hidden, layer.weight))
    assert found.item() == pytest.approx(plain.item(), rel=1e-6)
    for mine, theirs in zip(gradients, expected, strict=True):
        assert (mine - theirs).abs().max() <= 1e-6


def test_gradient_in_double_precision():
    hidden, layer, targets, weights = case(torch.float64)
    flat, each = hidden.flatten(0, 1), weights.flatten()

    def loss(x, weight):
        return dense_cross_entropy(x, weight, targets.flatten(), each)

    assert torch.autograd.gradcheck(loss, (flat, layer.weight))


def test_positions_of_weight_zero_have_no_influence():
    hidden, layer, targets, _ = case()
    weights = torch.ones(3, 15)
    weights[1] = 0
    other = torch.where(weights == 0, (targets + 1) % 50, targets)
    a, b = (linear_cross_entropy(hidden, layer, chosen, weights) for chosen in (targets, other))
    assert torch.equal(a, b)


def test_without_gradient_gives_the_same_value():
    hidden, layer, targets, weights = case()
    with torch.no_grad():
        quiet = linear_cross_entropy(hidden, layer, targets, weights)
    assert torch.equal(quiet, linear_cross_entropy(hidden, layer, targets, weights).detach())
    assert not quiet.requires_grad


def test_under_autocast_products_are_bf16_and_gradients_keep_their_type():
    hidden, layer, targets, _ = case()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = linear_cross_entropy(hidden, layer, targets)
    total.backward()
    assert total.dtype == layer.weight.grad.dtype == hidden.grad.dtype == torch.float32
    assert total.item() == pytest.approx(linear_cross_entropy(hidden, layer, targets).item(), rel=0.02)
