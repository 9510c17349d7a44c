"""From the rewards of a rollout to what each token is worth, with the two methods' own knowledge."""

from typing import Any

import numpy as np
import torch

from congling.data.tuning.pair_batches import batched
from congling.train.backends.single import Single
from congling.train.objectives.config import GRPOConfig, PPOConfig, RolloutConfig
from congling.train.rl.advantage import (
    gae,
    group_advantages,
    loss_denominator,
    overlong,
    token_weights,
    whitened,
)
from congling.train.rl.reference import Reference
from congling.train.rl.rollout_buffer import Rollout
from congling.train.rl.rollouts import MICRO_TOKENS, RolloutBatch


class GroupAdvantage:
    """GRPO: an answer is worth what it has more than the others to its prompt, at each of its tokens.

    Args:
        config: scale, averages, and the pull to the base.
        rollout: group and longest answer.
        looks: scores answers.
        reference: the base, where ``config.beta`` asks for it.
    """

    def __init__(
        self, config: GRPOConfig, rollout: RolloutConfig, looks: "RolloutScorer", reference: Reference | None
    ) -> None:
        self.config, self.rollout, self.looks, self.reference = config, rollout, looks, reference

    def __call__(self, found: Rollout) -> Rollout:
        """Fill in advantages and weights."""
        lengths, longest = found.lengths, self.rollout.max_completion_length
        rewards = found.rewards + overlong(lengths, longest, self.config.soft_punish_cache)
        each = group_advantages(
            rewards, self.rollout.num_generations, self.config, self.looks.backend.all_reduce_sum
        )
        found.advantages = [np.full(n, value, np.float32) for n, value in zip(lengths, each, strict=True)]
        found.weights = token_weights(lengths, longest, self.config.loss_type)
        found.count = loss_denominator(lengths, self.config.loss_type)
        if self.reference is not None:
            found.reference = self.looks.reference(found, self.reference)
        return found


class GAEAdvantage:
    """PPO: an answer's reward comes with its last token, every token has a KL penalty, and a value
    head says how much of that was to be expected."""

    def __init__(self, config: PPOConfig, looks: "RolloutScorer", reference: Reference | None) -> None:
        self.config, self.looks, self.reference = config, looks, reference

    def __call__(self, found: Rollout) -> Rollout:
        """Fill in values, advantages, returns and weights."""
        values = self.looks.values(found)
        rewards = [np.zeros(len(old)) for old in found.old]
        if self.reference is not None:
            found.reference = self.looks.reference(found, self.reference)
            drifts = [old - ref for old, ref in zip(found.old, found.reference, strict=True)]
            rewards = [
                reward - self.config.beta * drift for reward, drift in zip(rewards, drifts, strict=True)
            ]
        for reward, value in zip(rewards, np.nan_to_num(found.rewards), strict=True):
            reward[-1] += value
        advantages, found.returns = gae(rewards, values, self.config)
        lost = ~np.isfinite(found.rewards)
        total = self.looks.backend.all_reduce_sum
        found.advantages = whitened(advantages, total) if self.config.whiten_advantages else advantages
        for index in np.flatnonzero(lost):  # nobody could judge it: it teaches nothing
            found.advantages[index], found.returns[index] = np.zeros_like(values[index]), values[index]
        found.values = values
        found.weights = np.ones(len(values), np.float32)
        found.count = float(found.lengths.sum())
        return found


class RolloutScorer:
    """What the model, or the base, says of the answers of a rollout."""

    def __init__(self, model: Any, backend: Single, pad: int, temperature: float) -> None:
        self.model, self.backend, self.pad, self.temperature = model, backend, pad, temperature

    def reference(self, found: Rollout, reference: Reference) -> list[np.ndarray]:
        """(A,) of (L,): log-probabilities for the base."""
        return self._each(found, lambda batch: reference(batch, self.temperature))

    def values(self, found: Rollout) -> list[np.ndarray]:
        """(A,) of (L,): what the value head expects before each token."""

        def look(batch: Any) -> torch.Tensor:
            training = self.model.training
            self.model.eval()
            hidden = self.model(batch.tokens, positions=batch.positions, documents=batch.documents)
            self.model.train(training)
            places = batch.weights.reshape(-1).nonzero().squeeze(1)
            return self.model.scalar_head(hidden.reshape(-1, hidden.shape[-1])[places]).squeeze(-1)

        return self._each(found, look)

    @torch.no_grad()
    def _each(self, found: Rollout, look: Any) -> list[np.ndarray]:
        lengths = [example.length for example in found.examples]
        order = np.argsort(lengths, kind="stable")
        size = max(1, MICRO_TOKENS // max(lengths))
        result: list[np.ndarray] = [np.zeros(0, np.float32)] * len(lengths)
        for start in range(0, len(order), size):
            part = order[start : start + size]
            examples = [found.examples[i] for i in part]
            batch = batched(RolloutBatch, examples, max(lengths), self.pad)
            with self.backend.eval_context():
                values = look(self.backend.to_device(batch)).float().cpu().numpy()
            owner = batch.owner[batch.weights > 0]
            for place, index in enumerate(part):
                result[index] = values[owner == place]
        return result
