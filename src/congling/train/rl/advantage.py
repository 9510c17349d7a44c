"""What each token of an answer is worth: compared with others to the same prompt (GRPO), or with what a value
head expected (PPO). Plain numpy; what models say of a rollout comes from ``reference.py``."""

# A answers, G answers to a prompt, L tokens of an answer

from collections.abc import Callable, Sequence

import numpy as np

from congling.train.objectives.config import GRPOConfig, PPOConfig, RolloutConfig
from congling.train.rl.reference import Reference, RolloutScorer
from congling.train.rl.rollout_buffer import Rollout

_LEAST = 1e-4
"""Added to a deviation: a group of equal rewards has none (as in TRL)."""


Total = Callable[[float], float]
"""A number to its sum over all processes."""


class GroupAdvantage:
    """GRPO: an answer is worth what it has more than the others to its prompt, at each of its tokens.

    Args:
        config: scale, averages, and the pull to the base.
        rollout: group and longest answer.
        scorer: scores answers.
        reference: the base, where ``config.beta`` asks for it.
    """

    def __init__(
        self, config: GRPOConfig, rollout: RolloutConfig, scorer: RolloutScorer, reference: Reference | None
    ) -> None:
        self.config, self.rollout, self.scorer, self.reference = config, rollout, scorer, reference

    def __call__(self, found: Rollout) -> Rollout:
        """Fill in advantages and weights."""
        lengths, longest = found.lengths, self.rollout.max_completion_length
        rewards = found.rewards + overlong(lengths, longest, self.config.soft_punish_cache)
        each = group_advantages(
            rewards, self.rollout.num_generations, self.config, self.scorer.backend.all_reduce_sum
        )
        found.advantages = [np.full(n, value, np.float32) for n, value in zip(lengths, each, strict=True)]
        found.weights = token_weights(lengths, longest, self.config.loss_type)
        found.count = loss_denominator(lengths, self.config.loss_type)
        if self.reference is not None:
            found.reference = self.scorer.reference(found, self.reference)
        return found


class GAEAdvantage:
    """PPO: an answer's reward comes with its last token, every token has a KL penalty, and a value
    head says how much of that was to be expected."""

    def __init__(self, config: PPOConfig, scorer: RolloutScorer, reference: Reference | None) -> None:
        self.config, self.scorer, self.reference = config, scorer, reference

    def __call__(self, found: Rollout) -> Rollout:
        """Fill in values, advantages, returns and weights."""
        values = self.scorer.values(found)
        rewards = [np.zeros(len(old)) for old in found.old]
        if self.reference is not None:
            found.reference = self.scorer.reference(found, self.reference)
            drifts = [old - ref for old, ref in zip(found.old, found.reference, strict=True)]
            rewards = [
                reward - self.config.beta * drift for reward, drift in zip(rewards, drifts, strict=True)
            ]
        for reward, value in zip(rewards, np.nan_to_num(found.rewards), strict=True):
            reward[-1] += value
        advantages, found.returns = gae(rewards, values, self.config)
        lost = ~np.isfinite(found.rewards)
        total = self.scorer.backend.all_reduce_sum
        found.advantages = whitened(advantages, total) if self.config.whiten_advantages else advantages
        for index in np.flatnonzero(lost):  # it has no reward: it teaches nothing
            found.advantages[index], found.returns[index] = np.zeros_like(values[index]), values[index]
        found.values = values
        found.weights = np.ones(len(values), np.float32)
        found.count = float(found.lengths.sum())
        return found


def group_advantages(rewards: np.ndarray, group: int, config: GRPOConfig, total: Total = float) -> np.ndarray:
    """(A,) rewards to advantages: less the mean of their group, and scaled as configured.

    Rewards that are no numbers (a function failed) count nothing and get 0.

    Args:
        rewards: group after group.
        group: answers to a prompt.
        config: the scale.
        total: sums over processes, where the deviation is that of a batch they share.
    """
    table = rewards.reshape(-1, group)
    known = np.isfinite(table)
    counted = np.where(known, table, 0.0)
    each = np.maximum(1, known.sum(1, keepdims=True))
    centred = np.where(known, table - counted.sum(1, keepdims=True) / each, 0.0)
    if config.scale_rewards == "group":
        spread = np.sqrt((centred**2).sum(1, keepdims=True) / np.maximum(1, each - 1))
        centred = centred / (spread + _LEAST)
    elif config.scale_rewards == "batch":
        _, squares, count = _moments(rewards[np.isfinite(rewards)], total)
        centred = centred / (np.sqrt(squares / max(1, count - 1)) + _LEAST)
    return centred.reshape(-1).astype(np.float32)


def token_weights(lengths: np.ndarray, longest: int, loss_type: str) -> np.ndarray:
    """(A,) what each token of an answer weighs, and so what a step's loss is divided by: their sum.

    ``sequence``: every answer weighs 1. ``token``: every token does. ``constant``: a token weighs one
    ``longest``-th, and the sum is taken over answers: see :func:`divisor`.
    """
    if loss_type == "grpo":
        return (1 / np.maximum(1, lengths)).astype(np.float32)
    return np.full(len(lengths), 1.0 if loss_type == "dapo" else 1 / longest, np.float32)


def loss_denominator(lengths: np.ndarray, loss_type: str) -> float:
    """What the summed loss of a step is divided by."""
    return float(lengths.sum()) if loss_type == "dapo" else float(len(lengths))


def overlong(lengths: np.ndarray, longest: int, within: int) -> np.ndarray:
    """(A,) 0 down to −1 over the last ``within`` tokens before the limit (DAPO, Yu et al. 2025, eq. 13)."""
    if not within:
        return np.zeros(len(lengths))
    return np.clip((longest - within - lengths) / within, -1.0, 0.0)


def gae(
    rewards: Sequence[np.ndarray], values: Sequence[np.ndarray], config: PPOConfig
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Advantages and returns of every token (generalised advantage estimation, Schulman et al. 2015).

    Args:
        rewards: of every answer (L,), token by token.
        values: (L,) what the value head expected before each token; after the last one nothing is expected.
        config: gamma and trace.
    """
    advantages, returns = [], []
    for reward, value in zip(rewards, values, strict=True):
        following = np.append(value[1:], 0.0)
        errors = reward + config.gamma * following - value
        found, running = np.zeros(len(errors)), 0.0
        for place in range(len(errors) - 1, -1, -1):
            running = errors[place] + config.gamma * config.lam * running
            found[place] = running
        advantages.append(found.astype(np.float32))
        returns.append((found + value).astype(np.float32))
    return advantages, returns


def whitened(advantages: Sequence[np.ndarray], total: Total = float) -> list[np.ndarray]:
    """Mean 0 and deviation 1 over all tokens together, those of other processes included."""
    mean, squares, count = _moments(np.concatenate(advantages), total)
    spread = np.sqrt(squares / max(1, count))
    return [((one - mean) / (spread + 1e-8)).astype(np.float32) for one in advantages]


def _moments(values: np.ndarray, total: Total) -> tuple[float, float, float]:
    """Mean, sum of squared differences from it, and number, over all processes."""
    count = float(total(float(len(values))))
    mean = float(total(float(values.sum(dtype=np.float64)))) / max(1.0, count)
    return mean, float(total(float(((values - mean) ** 2).sum(dtype=np.float64)))), count
