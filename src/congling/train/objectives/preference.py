"""The loss of preference pairs: DPO and its relatives, each a few lines on the same numbers.

With π the sum of an answer's log-probabilities, ρ that of the reference, n its tokens::

    advantage  h = (π₊ − ρ₊) − (π₋ − ρ₋)              what training has done for the better answer
    dpo    −log σ(β h)                               (label smoothing mixes in −log σ(−β h))
    ipo    (h/n − 1/2β)²                             h/n: each answer's sum over its own tokens
    orpo   −π₊/n₊ − β log σ(odds₊ − odds₋)           odds(p) = log p − log(1 − p), p the mean probability
    simpo  −log σ(β (π₊/n₊ − π₋/n₋) − margin)
    kto    w (1 − σ(± (β (π − ρ) − z)))              z: how far the model has moved on unrelated answers

Values of ``dpo``, ``ipo`` and ``kto`` are those of TRL's trainers, ``orpo`` and ``simpo`` those of its
ORPO and CPO trainers; the tests compare them.
"""

# N positions that count, S sequences, P pairs

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from congling.train.objectives.batch import DevicePairs, DeviceRated, DeviceSequences
from congling.train.objectives.config import PreferenceConfig
from congling.train.objectives.log_probs import score, sums
from congling.train.objectives.loss import Loss

_LEAST_REST = 1e-6
"""Nats per token below certainty, of which odds are still told apart."""


def pair_losses(
    config: PreferenceConfig, sums_: Tensor, lengths: Tensor, reference: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Loss (P,) of each pair, and its margin (P,): by how much the better answer is preferred.

    Args:
        config: which loss.
        sums_: (2P,) log-probability of each answer; the better of a pair stands first.
        lengths: (2P,) tokens of each answer.
        reference: (2P,) log-probability for the base, where the loss refers to it.
    """
    beta = config.strength
    better, worse = sums_[0::2], sums_[1::2]
    mean_better, mean_worse = better / lengths[0::2], worse / lengths[1::2]
    if config.loss_type == "simpo":
        margin = beta * (mean_better - mean_worse)
        loss = -logsigmoid(margin - config.simpo_gamma)
    elif config.loss_type == "orpo":
        margin = (mean_better - mean_worse) - (_log_rest(mean_better) - _log_rest(mean_worse))
        loss = -mean_better - beta * logsigmoid(margin)
    else:
        assert reference is not None, "this loss refers to the base"
        gains = sums_ - reference
        margin = beta * (gains[0::2] - gains[1::2])
        if config.loss_type == "ipo":
            means = gains / lengths
            loss = (means[0::2] - means[1::2] - 1 / (2 * beta)) ** 2
        else:
            smooth = config.label_smoothing
            loss = -(1 - smooth) * logsigmoid(margin) - smooth * logsigmoid(-margin)
    return loss + config.rpo_alpha * -mean_better, margin


def rated_losses(config: PreferenceConfig, gains: Tensor, good: Tensor, drift: Tensor) -> Tensor:
    """KTO's loss (S,) of answers that are good or bad.

    Args:
        config: its beta and weights.
        gains: (S,) log-probability less that for the base.
        good: (S,) booleans.
        drift: (S',) gains of answers to other prompts, which estimate how far the model has moved.
    """
    zero = drift.mean().clamp(min=0).detach() if len(drift) else gains.new_zeros(())
    scaled = config.strength * (gains - zero)
    losses = 1 - torch.sigmoid(torch.where(good, scaled, -scaled))
    return losses * torch.where(good, config.desirable_weight, config.undesirable_weight)


def preference(config: PreferenceConfig) -> Any:
    """The objective over :class:`~congling.data.tuning.pair_batches.PairBatch`, or ``RatedBatch`` (KTO)."""
    return _Rated(config) if config.loss_type == "kto" else _Pairs(config)


class _Pairs:
    def __init__(self, config: PreferenceConfig) -> None:
        self.config = config

    def __call__(self, model: Any, batch: DevicePairs) -> Loss:
        """Sum over the pairs of a batch; ``accuracy`` counts those whose better answer is preferred."""
        found, lengths = sequence_sums(model, batch)
        reference = batch.reference if self.config.refers else None
        losses, margins = pair_losses(self.config, found, lengths, reference)
        start = found.detach() if reference is None else found.detach() - reference
        return Loss(
            losses.sum() + batch.count * model.balance_loss(batch.uncounted),
            {
                "loss": losses.sum().detach(),
                "margin": margins.sum().detach(),
                "accuracy": (margins > 0).float().sum(),
                "chosen": start[0::2].sum(),
                "rejected": start[1::2].sum(),
            },
        )


class _Rated:
    def __init__(self, config: PreferenceConfig) -> None:
        self.config = config

    def __call__(self, model: Any, batch: DeviceRated) -> Loss:
        """Sum over the rated answers of a batch; those to other prompts stand behind them."""
        found, _ = sequence_sums(model, batch)
        gains, count = found - batch.reference, len(batch.good)
        losses = rated_losses(self.config, gains[:count], batch.good, gains[count:].detach())
        moved = gains[:count].detach()
        good = batch.good.to(moved.dtype)
        return Loss(
            losses.sum() + batch.count * model.balance_loss(batch.uncounted),
            {
                "loss": losses.sum().detach(),
                "accuracy": ((moved > 0) == batch.good).float().sum(),
                "chosen": (moved * good).sum(),
                "rejected": (moved * (1 - good)).sum(),
                "drift": gains[count:].detach().mean().clamp(min=0) * count,
            },
        )


def sequence_sums(model: Any, batch: DeviceSequences) -> tuple[Tensor, Tensor]:
    """Log-probability (S,) and length in tokens (S,) of every sequence of a batch."""
    found = score(model, batch)
    owner, count = batch.owner.reshape(-1)[found.places], int(batch.sequences)
    return sums(found.log_probs, owner, count), sums(torch.ones_like(found.log_probs), owner, count)


def _log_rest(log_probability: Tensor) -> Tensor:
    """log(1 − p) of log p, without losing small rests; one is left of what is certain."""
    return torch.log(-torch.expm1(log_probability.clamp(max=-_LEAST_REST)))
