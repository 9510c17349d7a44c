"""Distillation chunk by chunk against the plain formula over all logits."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from congling.core.errors import UserError
from congling.data.batches import Batch
from congling.train.backends.single import Single
from congling.train.loop import Trainer
from congling.train.objectives import chunks
from congling.train.objectives.distill import DIVERGENCES, OwnTexts, distill, distillation_sums
from congling.train.objectives.distill_config import DistillConfig
from support.training_doubles import CONTEXT, VOCABULARY, SplitBatches, settings, small_model

CASES = [
    DistillConfig(),
    DistillConfig(temperature=2.5, alpha=0.0),
    DistillConfig(divergence="reverse", temperature=0.7, alpha=0.4),
    DistillConfig(divergence="js", beta=0.2, temperature=1.7, alpha=0.3),
    DistillConfig(divergence="js", beta=0.9, alpha=0.0),
]


@pytest.fixture(autouse=True)
def several_chunks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(chunks, "LAYER_CHUNK", chunks.ChunkSize({"cpu": 1}, 7))


def case() -> tuple[Tensor, nn.Linear, Tensor, nn.Linear, Tensor, Tensor]:
    """Student of width 10, teacher of width 24, vocabulary 31, in double precision."""
    torch.manual_seed(0)
    hidden = torch.randn(3, 8, 10, dtype=torch.float64, requires_grad=True)
    taught = torch.randn(3, 8, 24, dtype=torch.float64)
    student, teacher = (nn.Linear(width, 31, bias=False).double() for width in (10, 24))
    with torch.no_grad():
        teacher.weight *= 5
    weights = torch.tensor([0.0, 1.0, 0.5] * 8, dtype=torch.float64).view(3, 8)
    return hidden, student, taught, teacher.requires_grad_(False), torch.randint(0, 31, (3, 8)), weights


def plain(config: DistillConfig, student: Tensor, teacher: Tensor, targets: Tensor) -> Tensor:
    """The loss of every position from all logits (..., V), by torch's own gradients."""
    warm = config.temperature
    p, q = (torch.softmax(scores / warm, -1) for scores in (teacher, student))
    if config.divergence == "forward":
        distance = (p * (p / q).log()).sum(-1)
    elif config.divergence == "reverse":
        distance = (q * (q / p).log()).sum(-1)
    else:
        m = config.beta * p + (1 - config.beta) * q
        parts = (p * (p / m).log()).sum(-1), (q * (q / m).log()).sum(-1)
        distance = config.beta * parts[0] + (1 - config.beta) * parts[1]
    nats = -torch.log_softmax(student, -1).gather(-1, targets[..., None]).squeeze(-1)
    return (1 - config.alpha) * warm**2 * distance + config.alpha * nats


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("config", CASES)
def test_equals_the_plain_formula_and_its_gradients(config: DistillConfig, masked: bool):
    hidden, layer, taught, teacher, targets, weights = case()
    losses = plain(config, layer(hidden), teacher(taught), targets)
    expected = (losses * weights).sum() if masked else losses.sum()
    wanted = torch.autograd.grad(expected / 7, (hidden, layer.weight))
    found = distillation_sums(
        hidden,
        layer,
        taught,
        teacher,
        targets,
        weights if masked else None,
        config=config,
        truth=config.alpha,
    )
    gradients = torch.autograd.grad(found[0] / 7, (hidden, layer.weight))
    assert found[0].item() == pytest.approx(expected.item(), rel=1e-12)
    for mine, theirs in zip(gradients, wanted, strict=True):
        assert (mine - theirs).abs().max() <= 1e-12


@pytest.mark.parametrize("config", CASES)
def test_gradient_in_double_precision(config: DistillConfig):
    hidden, layer, taught, teacher, targets, weights = case()

    def loss(hidden: Tensor) -> Tensor:
        sums = distillation_sums(hidden, layer, taught, teacher, targets, weights, config=config, truth=0.3)
        return sums[0]

    assert torch.autograd.gradcheck(loss, (hidden,))


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_a_student_like_its_teacher_has_nothing_to_learn(divergence: str):
    scores = torch.log_softmax(torch.randn(5, 31, dtype=torch.float64), -1)
    distance, slope = DIVERGENCES[divergence](scores, scores.clone(), 0.3)
    assert distance.abs().max() < 1e-12 and slope.abs().max() < 1e-12
    other, _ = DIVERGENCES[divergence](scores, torch.log_softmax(torch.zeros(5, 31).double(), -1), 0.3)
    assert (other > 0.01).all()


def test_the_mixture_tends_to_either_side():
    log_p, log_q = (torch.log_softmax(torch.randn(4, 31, dtype=torch.float64), -1) for _ in range(2))
    small, _ = DIVERGENCES["js"](log_p, log_q, 1e-7)
    large, _ = DIVERGENCES["js"](log_p, log_q, 1 - 1e-7)
    assert torch.allclose(small / 1e-7, DIVERGENCES["forward"](log_p, log_q, 0.5)[0], rtol=1e-3)
    assert torch.allclose(large / 1e-7, DIVERGENCES["reverse"](log_p, log_q, 0.5)[0], rtol=1e-3)


def batch(kind: type[Batch] = Batch) -> Batch:
    draw = np.random.default_rng(0)
    tokens = draw.integers(0, VOCABULARY, (2, CONTEXT + 1))
    weights = (draw.random((2, CONTEXT)) < 0.6).astype(np.float32)
    documents = np.repeat([[0, 1]], CONTEXT // 2, 1).repeat(2, 0)
    positions = np.tile(np.arange(CONTEXT // 2), 2)[None].repeat(2, 0)
    return kind(tokens[:, :-1], tokens[:, 1:], weights, positions, documents, float(weights.sum()))


def test_documents_and_masks_reach_both_models_and_only_the_student_learns():
    student, teacher = (
        small_model(),
        small_model("llama", hidden_size=48, num_hidden_layers=1).eval().requires_grad_(False),
    )
    placed = Single(settings()).to_device(batch())
    loss = distill(teacher, DistillConfig(temperature=2.0))(student, placed)
    loss.total.backward()
    given = {"positions": placed.positions, "documents": placed.documents}
    scores = [model.logits(model(placed.tokens, **given)) for model in (student, teacher)]
    expected = (plain(DistillConfig(temperature=2.0), *scores, placed.targets) * placed.weights).sum()
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-5)
    gradients = torch.autograd.grad(expected, list(student.parameters()))
    for (name, mine), theirs in zip(student.named_parameters(), gradients, strict=True):
        assert mine.grad is not None and (mine.grad - theirs).abs().max() < 1e-4, name
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_hidden_states_are_compared_by_direction_block_by_block():
    student, teacher = small_model(), small_model("llama").eval().requires_grad_(False)
    for parameter in (*student.parameters(), *teacher.parameters()):  # not the zeros that models begin with
        parameter.data.normal_()
    placed, config = Single(settings()).to_device(batch()), DistillConfig(hidden=0.5)
    loss, without = (distill(teacher, each)(student, placed) for each in (config, DistillConfig()))
    kept: list[list[Tensor]] = [[], []]
    for model, states in zip((student, teacher), kept, strict=True):
        for block in model.blocks:
            block.register_forward_hook(lambda block, given, out, states=states: states.append(out))
        model(placed.tokens, positions=placed.positions, documents=placed.documents)
    angles = [torch.cosine_similarity(ours, theirs, dim=-1) for ours, theirs in zip(*kept, strict=True)]
    expected = sum(((2 - 2 * cosine) * placed.weights).sum() for cosine in angles)  # ‖a - b‖² of unit vectors
    assert isinstance(expected, Tensor) and len(angles) == 2 and loss.metrics["hidden"].item() > 1
    assert loss.metrics["hidden"].item() == pytest.approx(float(expected.detach()), rel=1e-4)
    assert (loss.total - without.total).item() == pytest.approx(0.5 * float(expected.detach()), rel=1e-3)
    loss.total.backward()
    assert all(one.grad is not None for one in student.parameters())
    assert not any(one.grad is not None for one in teacher.parameters())
    same = distill(student.requires_grad_(False), config)(student, placed)
    assert same.metrics["hidden"].item() == 0


def test_hidden_states_of_other_shapes_are_refused():
    student, teacher = small_model(), small_model("llama", hidden_size=48).requires_grad_(False)
    placed = Single(settings()).to_device(batch())
    with pytest.raises(UserError, match="need one depth and width"):
        distill(teacher, DistillConfig(hidden=1.0))(student, placed)


def test_what_the_student_wrote_itself_is_no_truth():
    student, teacher = small_model(), small_model("llama", hidden_size=48).eval().requires_grad_(False)
    own = Single(settings()).to_device(batch(OwnTexts))
    assert isinstance(own, OwnTexts)
    told = distill(teacher, DistillConfig(alpha=0.8))(student, own)
    other = own.__class__(own.tokens, own.targets * 0, own.weights, own.positions, own.documents, own.count)
    assert distill(teacher, DistillConfig(alpha=0.8))(student, other).total.item() == told.total.item()
    assert told.total.item() == pytest.approx(told.metrics["divergence"].item())


def test_accumulated_micro_batches_are_one_large_one():
    gradients = []
    for rows in (8, 2):
        teacher = small_model("llama", hidden_size=48).eval().requires_grad_(False)
        config = settings(max_steps=1)
        trainer = Trainer(
            small_model(), SplitBatches(rows), distill(teacher, DistillConfig()), config, Single(config)
        )
        found: dict[str, Tensor] = {}
        trainer.before_update = lambda means, trainer=trainer, found=found: found.update(
            {name: one.grad.clone() for name, one in trainer.model.named_parameters()}
        )
        trainer.train_step(trainer.batches(0, 0, 1))
        gradients.append(found)
    for name, whole in gradients[0].items():
        assert (whole - gradients[1][name]).abs().max() <= 1e-7, name
