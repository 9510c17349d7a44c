"""Chunked linear + cross-entropy against the plain one."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from congling.train.objectives import cross_entropy as chunked
from congling.train.objectives.cross_entropy import cross_entropy_sum


@pytest.fixture(autouse=True)
def several_chunks(monkeypatch):
    monkeypatch.setitem(chunked.CHUNK_VALUES, "cpu", 16 * 50)
    monkeypatch.setattr(chunked, "LEAST_ROWS", 16)


def case(dtype=torch.float32):
    torch.manual_seed(0)
    hidden = torch.randn(3, 15, 24, dtype=dtype, requires_grad=True)
    weight = torch.randn(50, 24, dtype=dtype, requires_grad=True)
    return hidden, weight, torch.randint(0, 50, (3, 15)), torch.rand(3, 15, dtype=dtype).round(decimals=1)


@pytest.mark.parametrize("masked", [False, True])
def test_equals_the_plain_loss_and_its_gradients(masked):
    hidden, weight, targets, weights = case()
    each = cross_entropy((hidden @ weight.T).flatten(0, 1), targets.flatten(), reduction="none")
    plain = (each * weights.flatten()).sum() if masked else each.sum()
    expected = torch.autograd.grad(plain / 7, (hidden, weight))
    found = cross_entropy_sum(hidden, weight, targets, weights if masked else None)
    gradients = torch.autograd.grad(found / 7, (hidden, weight))
    assert found.item() == pytest.approx(plain.item(), rel=1e-6)
    for mine, theirs in zip(gradients, expected, strict=True):
        assert (mine - theirs).abs().max() <= 1e-6


def test_gradient_in_double_precision():
    hidden, weight, targets, weights = case(torch.float64)
    assert torch.autograd.gradcheck(lambda h, w: cross_entropy_sum(h, w, targets, weights), (hidden, weight))


def test_positions_of_weight_zero_have_no_influence():
    hidden, weight, targets, _ = case()
    weights = torch.ones(3, 15)
    weights[1] = 0
    other = torch.where(weights == 0, (targets + 1) % 50, targets)
    a, b = (cross_entropy_sum(hidden, weight, chosen, weights) for chosen in (targets, other))
    assert torch.equal(a, b)


def test_without_gradient_gives_the_same_value():
    hidden, weight, targets, weights = case()
    with torch.no_grad():
        quiet = cross_entropy_sum(hidden, weight, targets, weights)
    assert torch.equal(quiet, cross_entropy_sum(hidden, weight, targets, weights).detach())
    assert not quiet.requires_grad


def test_under_autocast_products_are_bf16_and_gradients_keep_their_type():
    hidden, weight, targets, _ = case()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = cross_entropy_sum(hidden, weight, targets)
    total.backward()
    assert total.dtype == weight.grad.dtype == hidden.grad.dtype == torch.float32
    assert total.item() == pytest.approx(cross_entropy_sum(hidden, weight, targets).item(), rel=0.02)
