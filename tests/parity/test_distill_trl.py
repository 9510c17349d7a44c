"""Distillation losses equal those of TRL's GKD trainer on the same logits.

TRL has the same mixture, without the factor of the squared temperature.
"""

import pytest
import torch
from torch import nn

from congling.train.objectives.distill import distillation_sums
from congling.train.objectives.distill_config import DistillConfig

pytest.importorskip("trl", reason="the reference is trl's")


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize(
    ("divergence", "beta"), [("forward", 0.0), ("reverse", 1.0), ("js", 0.5), ("js", 0.1), ("js", 0.9)]
)
def test_generalised_jensen_shannon(divergence: str, beta: float, temperature: float):
    from trl.experimental.gkd import GKDTrainer

    torch.manual_seed(0)
    student, teacher = torch.randn(2, 9, 57, requires_grad=True), 3 * torch.randn(2, 9, 57)
    labels = torch.randint(0, 57, (2, 9))
    labels[:, :3] = -100
    theirs = GKDTrainer.generalized_jsd_loss(
        student, teacher, labels, beta=beta, temperature=temperature, num_items_in_batch=1
    )
    wanted = torch.autograd.grad(theirs, student)[0]
    values = {"beta": beta} if divergence == "js" else {}
    config = DistillConfig(divergence=divergence, temperature=temperature, **values)  # type: ignore[arg-type]
    weights = (labels != -100).float()
    as_it_is = nn.Linear(57, 57, bias=False)
    with torch.no_grad():
        as_it_is.weight.copy_(torch.eye(57))
    mine = (
        distillation_sums(
            student, as_it_is, teacher, as_it_is, labels.clamp(min=0), weights, config=config, truth=0.0
        )[0]
        / temperature**2
    )
    gradient = torch.autograd.grad(mine, student)[0]
    assert abs(mine.item() - theirs.item()) <= 1e-5 * theirs.item()
    assert (gradient - wanted).abs().max() <= 1e-5
