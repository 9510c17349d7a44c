"""The policy loss: the clipped objective that GRPO and PPO share, and PPO's value loss.

With r = exp(log π − log π_old), the ratio of a token's new to its old probability, and its advantage A::

    policy   −min(r A, clip(r, 1 − ε, 1 + ε') A)         further away counts no more
    kl       exp(ρ − π) − (ρ − π) − 1                    k3 estimate of the divergence from the base ρ
    value    ½ max((v − R)², (v_old ± clip − R)²)        PPO alone; R what the answer was worth from there

Each token has a weight, which says what an average is over: see ``grpo.loss_type``. Values are those of TRL's
GRPO trainer on the same tensors.
"""

# N tokens that count

from typing import Any

import torch
from torch import Tensor

from congling.train.objectives.batch import DeviceRollouts
from congling.train.objectives.config import GRPOConfig, PolicyConfig, PPOConfig
from congling.train.objectives.log_probs import Scored, score
from congling.train.objectives.loss import Loss


def clipped(log_probs: Tensor, old: Tensor, advantages: Tensor, below: float, above: float) -> Tensor:
    """(N,) loss of each token."""
    ratio = torch.exp(log_probs - old)
    return -torch.min(ratio * advantages, ratio.clamp(1 - below, 1 + above) * advantages)


def divergence(log_probs: Tensor, reference: Tensor) -> Tensor:
    """(N,) estimates of KL(π ‖ ρ), never negative (k3 of Schulman 2020)."""
    difference = reference - log_probs
    return torch.exp(difference) - difference - 1


def value_loss(values: Tensor, old: Tensor, returns: Tensor, clip: float) -> Tensor:
    """(N,) half the squared error of the value, or of the value held near the old one, whichever is worse."""
    held = old + (values - old).clamp(-clip, clip)
    return 0.5 * torch.max((values - returns) ** 2, (held - returns) ** 2)


class Policy:
    """The objective over :class:`congling.train.rl.rollout_buffer.RolloutBatch`, for both methods.

    Args:
        config: a :class:`GRPOConfig` or a :class:`PPOConfig`.
        temperature: that of sampling.
    """

    def __init__(self, config: GRPOConfig | PPOConfig, temperature: float = 1.0) -> None:
        self.config, self.temperature = config, temperature

    def __call__(self, model: Any, batch: DeviceRollouts) -> Loss:
        """Sum over the tokens of a batch, each times its weight."""
        config = self.config
        found = score(
            model, batch, temperature=self.temperature, entropy=True, learn_entropy=config.entropy_coef > 0
        )
        weights = batch.weights.reshape(-1)[found.places]
        advantages = batch.advantages.reshape(-1)[found.places]
        # On the first update of a rollout the model is still the one that wrote it: the ratio is exactly 1.
        old = found.log_probs.detach() if batch.fresh else batch.old.reshape(-1)[found.places]
        losses = clipped(found.log_probs, old, advantages, config.epsilon, config.above)
        each = weights * batch.mean  # such that a metric is a mean over what weighs, whatever the loss is
        metrics = _measured(found, old, advantages, each, config)
        if batch.reference is not None:
            drift = divergence(found.log_probs, batch.reference.reshape(-1)[found.places])
            metrics["kl"] = (each * drift.detach()).sum()
            if isinstance(config, GRPOConfig):  # PPO pays for it in its rewards
                losses = losses + config.beta * drift
        if config.entropy_coef:
            losses = losses - config.entropy_coef * found.entropy
        if isinstance(config, PPOConfig):
            worth = _worth(model, found, batch, config)
            losses = losses + config.vf_coef * worth
            metrics["value_loss"] = (each * worth.detach()).sum()
        total = (weights * losses).sum()
        return Loss(
            total + batch.count * model.balance_loss(batch.uncounted), {"loss": total.detach()} | metrics
        )


def _worth(model: Any, found: Scored, batch: DeviceRollouts, config: PPOConfig) -> Tensor:
    """(N,) losses of the value head."""
    values = model.scalar_head(found.hidden).squeeze(-1)
    old, returns = (one.reshape(-1)[found.places] for one in (batch.values, batch.returns))
    return value_loss(values, old, returns, config.cliprange_value)


def _measured(
    found: Scored, old: Tensor, advantages: Tensor, weights: Tensor, config: PolicyConfig
) -> dict[str, Tensor]:
    """Entropy, and the share of tokens that have stopped counting."""
    ratio = torch.exp(found.log_probs.detach() - old)
    stopped = ((ratio > 1 + config.above) & (advantages > 0)) | (
        (ratio < 1 - config.epsilon) & (advantages < 0)
    )
    return {"entropy": (weights * found.entropy.detach()).sum(), "clipped": (weights * stopped).sum()}
