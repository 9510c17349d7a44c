"""Optimizers: Muon makes updates orthogonal matrix by matrix, and a skipped step changes nothing."""

import pytest
import torch
from torch import nn

from congling.train.config import AdamWConfig, MuonConfig
from congling.train.optim.build import build_optimizers
from congling.train.optim.muon import Muon, orthogonalise
from congling.train.optim.roles import roles

GO, SKIP = torch.zeros(()), torch.ones(())


class Tiny(nn.Module):
    """Two matrices of one shape, three experts, an embedding, a head and a norm."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(10, 8)
        self.up = nn.Linear(8, 16, bias=False)
        self.gate = nn.Linear(8, 16, bias=False)
        self.experts = nn.Parameter(torch.randn(3, 8, 12))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 10, bias=False)

    def output_layer(self):
        return self.head


def filled(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return model


def snapshot(model, optimizers):
    state = {name: value.clone() for o in optimizers for name, value in o.tensors().items()}
    return state | {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("shape", [(4, 16, 16), (2, 8, 32), (3, 40, 10)])
def test_orthogonalise_moves_all_singular_values_near_one(shape):
    values = torch.linalg.svdvals(
        orthogonalise(torch.randn(shape, generator=torch.Generator().manual_seed(1)), 8)
    )
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_orthogonalise_keeps_singular_vectors_and_zero():
    matrix = torch.randn(1, 6, 9, generator=torch.Generator().manual_seed(2))
    u, _, v = torch.linalg.svd(matrix[0], full_matrices=False)
    rotated = u.T @ orthogonalise(matrix)[0] @ v.T
    assert (rotated - torch.diag(rotated.diagonal())).abs().max() < 1e-4
    assert torch.equal(orthogonalise(torch.zeros(2, 3, 4)), torch.zeros(2, 3, 4))


def test_roles_cover_every_parameter_once():
    assert roles(Tiny()) == {
        "embedding.weight": "embedding",
        "up.weight": "matrix",
        "gate.weight": "matrix",
        "experts": "matrix",
        "norm.weight": "scalar",
        "norm.bias": "scalar",
        "head.weight": "head",
    }


def test_matrices_of_one_shape_share_a_stack_but_not_an_update():
    model = filled(Tiny())
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    muon = Muon(
        [model.up.weight, model.experts, model.gate.weight], MuonConfig(weight_decay=0, momentum_start=0)
    )
    assert sorted(muon.tensors()) == ["muon.16x8", "muon.8x12"]
    muon.step(0, 1.0, GO)
    for name, scale in (("up.weight", 2**0.5), ("gate.weight", 2**0.5)):
        parameter = model.get_parameter(name)
        expected = 0.013 * scale * orthogonalise(parameter.grad[None])[0]
        assert torch.allclose(before[name] - parameter.detach(), expected, atol=1e-6)
    expected = 0.013 * orthogonalise(model.experts.grad)
    assert torch.allclose(before["experts"] - model.experts.detach(), expected, atol=1e-6)


@pytest.mark.parametrize(
    "config",
    [AdamWConfig(), MuonConfig(), MuonConfig(adjust_lr_fn="match_rms_adamw")],
    ids=["adamw", "muon", "rms"],
)
def test_a_skipped_step_changes_neither_weights_nor_state(config):
    model = filled(Tiny())
    optimizers = build_optimizers(model, config)
    for optimizer in optimizers:
        optimizer.step(0, 1.0, GO)
    before = snapshot(model, optimizers)
    for parameter in model.parameters():
        parameter.grad.fill_(float("nan"))
    for optimizer in optimizers:
        optimizer.step(1, 1.0, SKIP)
    after = snapshot(model, optimizers)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert before.keys() == after.keys()


@pytest.mark.parametrize("config", [AdamWConfig(), MuonConfig()], ids=["adamw", "muon"])
def test_stored_state_continues_bit_for_bit(config):
    straight, resumed = Tiny(), Tiny()
    first, second = build_optimizers(straight, config), build_optimizers(resumed, config)
    for step in range(3):
        for optimizer in first:
            filled(straight, step)
            optimizer.step(step, 1.0, GO)
    state = {name: value.clone() for o in first for name, value in o.tensors().items()}
    resumed.load_state_dict(straight.state_dict())
    for optimizer in second:
        optimizer.load(state)
    for model, optimizers in ((straight, first), (resumed, second)):
        filled(model, 9)
        for optimizer in optimizers:
            optimizer.step(3, 0.5, GO)
    one, other = snapshot(straight, first), snapshot(resumed, second)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "config", [AdamWConfig(learning_rate=0.05), MuonConfig(learning_rate=0.1)], ids=["adamw", "muon"]
)
def test_reaches_the_minimum_of_a_quadratic(config):
    torch.manual_seed(3)
    model = nn.Linear(6, 6, bias=False)
    target = torch.randn(6, 6)
    optimizers = build_optimizers(model, config.replace(weight_decay=0.0))
    for step in range(200):
        model.weight.grad = model.weight.detach() - target
        for optimizer in optimizers:
            optimizer.step(step, 1 - step / 200, GO)
    assert (model.weight.detach() - target).abs().max() < 0.05


def test_frozen_parameters_belong_to_no_optimizer():
    model = Tiny()
    model.up.weight.requires_grad_(False)
    assert "up.weight" not in roles(model)
