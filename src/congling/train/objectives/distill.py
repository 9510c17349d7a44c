"""The distillation loss: a divergence from the teacher's next-token distribution (Hinton et al. 2015).

With teacher p = softmax(t / T) and student q = softmax(s / T), logits t and s, temperature T, mixture
m = βp + (1-β)q, the loss of a position is ``(1-α) · T² · D + α · nats of the target``, where D is::

    forward   KL(p‖q) = Σ p (log p - log q)         dD/d(s/T) = q - p
    reverse   KL(q‖p) = Σ q (log q - log p)         dD/d(s/T) = q (log q - log p - D)
    js        β KL(p‖m) + (1-β) KL(q‖m)             dD/d(s/T) = (1-β) q (log q - log m - KL(q‖m))

``js`` is the generalised Jensen-Shannon divergence of GKD (Agarwal et al. 2023, equation 1). Logits of
teacher and student exist for one chunk of positions at a time.

With a weight for ``hidden`` states, Σ ‖u/‖u‖ - v/‖v‖‖² over the blocks is added (OneBit, Xu et al. 2024), u
and v what a block of teacher and student puts out.
"""

# B rows, T positions of a row, N positions, n those of one chunk, W width, V vocabulary

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from congling.core.errors import UserError
from congling.data.batches import Batch
from congling.train.objectives.batch import DeviceBatch
from congling.train.objectives.chunks import layer_logits, sum_over_chunks
from congling.train.objectives.distill_config import DistillConfig
from congling.train.objectives.loss import Loss
from congling.train.objectives.next_token import LanguageModel


class OwnTexts(Batch):
    """Rows the student continued itself: their targets are no truth, so only the divergence counts."""


def distill(teacher: LanguageModel, config: DistillConfig) -> Callable[[LanguageModel, DeviceBatch], Loss]:
    """The objective: divergence from a frozen teacher and next-token loss, weighted and summed.

    Metrics are ``loss``, the nats of the targets as in pretraining, ``divergence`` without the factor T²,
    and ``hidden`` without its weight, where it has one.

    Args:
        teacher: of any size, with the student's vocabulary; in evaluation mode, on the student's device.
        config: divergence, temperature and mix.
    """
    weight = config.hidden or 0.0

    def objective(model: LanguageModel, batch: DeviceBatch) -> Loss:
        given: dict[str, Any] = {"positions": batch.positions, "documents": batch.documents}
        states, wanted = ([], []) if weight else (None, None)
        hidden = model(batch.tokens, **given, states=states)
        with torch.no_grad():
            taught = teacher(batch.tokens, **given, states=wanted)
        targets, weights = batch.targets, batch.weights
        truth = 0.0 if isinstance(batch, OwnTexts) else config.alpha
        total, nats, divergence = distillation_sums(
            hidden,
            model.output_layer(),
            taught,
            teacher.output_layer(),
            targets,
            weights,
            config=config,
            truth=truth,
        )
        metrics = {"loss": nats.detach(), "divergence": divergence.detach()}
        if states is not None and wanted is not None:
            apart = hidden_distance(states, wanted, weights)
            total, metrics["hidden"] = total + weight * apart, apart.detach()
        return Loss(total + batch.count * model.balance_loss(batch.uncounted), metrics)

    return objective


def hidden_distance(states: Sequence[Tensor], wanted: Sequence[Tensor], weights: Tensor | None) -> Tensor:
    """Σ ‖u/‖u‖ - v/‖v‖‖² over blocks and positions, weighted: the squared distances of directions.

    Args:
        states: (B, T, W) of each block of the student.
        wanted: those of the teacher.
        weights: (B, T) or None for one each.

    Raises:
        UserError: student and teacher differ in depth or width.
    """
    sizes = [(len(each), each[0].shape[-1]) for each in (states, wanted)]
    if sizes[0] != sizes[1]:
        what = "hidden states are compared block by block: student and teacher need one depth and width"
        hint = "leave distill.hidden out, or begin with a student of the teacher's shape"
        raise UserError(what, where="distill.hidden", value=f"{sizes[0]}, the teacher {sizes[1]}", hint=hint)
    total = states[0].new_zeros((), dtype=torch.float32)
    for ours, theirs in zip(states, wanted, strict=True):
        apart = (normalize(ours.float(), dim=-1) - normalize(theirs.float(), dim=-1)).square().sum(-1)
        total = total + (apart if weights is None else apart * weights).sum()
    return total


def distillation_sums(
    hidden: Tensor,
    layer: nn.Module,
    taught: Tensor,
    teacher_layer: nn.Module,
    targets: Tensor,
    weights: Tensor | None,
    *,
    config: DistillConfig,
    truth: float,
) -> Tensor:
    """Weighted sums over positions of the loss, the nats of the target and the divergence: (3,).

    Args:
        hidden: (..., W) of the student; the loss has a gradient by it and by ``layer``.
        layer: the output layer of the student.
        taught: (..., its own width) of the teacher.
        teacher_layer: that of the teacher.
        targets: (...) int64 in [0, V).
        weights: (...) or None for one each; positions of weight 0 have no influence.
        config: divergence and temperature.
        truth: share of the next-token loss.
    """
    flat, known, wanted = hidden.flatten(0, -2), taught.flatten(0, -2), targets.flatten()
    each = None if weights is None else weights.flatten()
    if each is not None:  # positions that do not count need no logits
        places = each.nonzero().squeeze(1)
        flat, known, wanted, each = flat[places], known[places], wanted[places], each[places]
    teach = layer_logits(teacher_layer)

    def loss(logits: Tensor, part: slice, learn: bool) -> tuple[Tensor | None, Tensor]:
        with torch.no_grad():
            teacher_logits = teach(known[part])
        weight = 1.0 if each is None else each[part, None]
        return _chunk_loss(
            logits, teacher_logits, wanted[part, None], weight, learn, config=config, truth=truth
        )

    return sum_over_chunks(flat, layer, loss, 3)


def _chunk_loss(
    logits: Tensor,
    teacher_logits: Tensor,
    targets: Tensor,
    weight: Tensor | float,
    learn: bool,
    *,
    config: DistillConfig,
    truth: float,
) -> tuple[Tensor | None, Tensor]:
    """Gradient of the summed loss by the logits (n, V), and the three sums."""
    exact, warm = torch.promote_types(logits.dtype, torch.float32), config.temperature
    plain = torch.log_softmax(logits, -1, dtype=exact)
    log_q = plain if warm == 1 else torch.log_softmax(plain / warm, -1)
    log_p = torch.log_softmax(teacher_logits.to(exact) / warm, -1)
    distance, grad_logits = DIVERGENCES[config.divergence](log_p, log_q, config.beta)  # (n, 1), (n, V)
    nats = -plain.gather(1, targets)
    loss = (1 - truth) * warm**2 * distance + truth * nats
    sums = torch.stack([(one * weight).sum() for one in (loss, nats, distance)])
    if not learn:
        return None, sums
    grad_logits = grad_logits.mul_((1 - truth) * warm)  # T² over the T that divides the logits
    if truth:
        grad_logits.add_(plain.exp(), alpha=truth)
        grad_logits.scatter_add_(1, targets, torch.full_like(nats, -truth))
    return grad_logits.mul_(weight).to(logits.dtype), sums


def forward_kl(log_p: Tensor, log_q: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """KL(p‖q) of each row of (n, V), (n, 1), and its gradient by the logits of q, (n, V)."""
    p, q = log_p.exp(), log_q.exp()
    return (p * (log_p - log_q)).sum(-1, keepdim=True), q - p


def reverse_kl(log_p: Tensor, log_q: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """KL(q‖p) and its gradient, as :func:`forward_kl`."""
    q, ratio = log_q.exp(), log_q - log_p
    distance = (q * ratio).sum(-1, keepdim=True)
    return distance, q * (ratio - distance)


def jensen_shannon(log_p: Tensor, log_q: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """β KL(p‖m) + (1-β) KL(q‖m) with m = βp + (1-β)q, and its gradient, as :func:`forward_kl`."""
    p, q = log_p.exp(), log_q.exp()
    log_m = torch.logaddexp(log_p + math.log(beta), log_q + math.log1p(-beta))
    ratio = log_q - log_m
    student = (q * ratio).sum(-1, keepdim=True)
    distance = beta * (p * (log_p - log_m)).sum(-1, keepdim=True) + (1 - beta) * student
    return distance, (ratio - student).mul_(q).mul_(1 - beta)


DIVERGENCES = {"forward": forward_kl, "reverse": reverse_kl, "js": jensen_shannon}
