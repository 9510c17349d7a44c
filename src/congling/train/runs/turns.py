"""Turns of a learning rate: from which step on it falls, and how far it is then. No torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from congling.train.config import CosineConfig, WSDConfig
from congling.train.schedule import learning_rate_factor, warmup_factor, warmup_steps


@dataclass(frozen=True)
class Turn:
    """From the update of ``step`` on the rate falls, to reach its floor with the last of ``steps``."""

    step: int
    steps: int
    """Steps of the whole run."""
    elapsed: float = 0.0
    """Seconds of the budget that were used up by then."""
    pace: float = 0.0
    """Seconds a step took just before."""


def factor_with(schedule: WSDConfig | CosineConfig, planned: int, turns: Sequence[Turn], step: int) -> float:
    """Share of the peak rate of the update of ``step`` under the ``turns`` made so far.

    Where the first turn is where ``planned`` steps would have begun to fall, and ends where they end, this is
    :func:`~congling.train.schedule.learning_rate_factor`. A later turn stretches or shortens the rest of
    the fall.
    """
    made = [turn for turn in turns if turn.step <= step]
    if isinstance(schedule, CosineConfig):
        return _cosine(schedule, planned, made, step)
    level = warmup_factor(schedule, min(step, made[0].step) if made else step, planned)
    if not made or not schedule.decay_ratio:
        return level
    done = _progress(0.0, made, step)
    remaining = 1 - done if schedule.decay_type == "linear" else 1 - math.sqrt(done)
    return schedule.min_lr_ratio + (level - schedule.min_lr_ratio) * remaining


def _cosine(schedule: CosineConfig, planned: int, made: Sequence[Turn], step: int) -> float:
    if not made:
        return learning_rate_factor(schedule, step, planned)
    warmup, first = warmup_steps(schedule, planned), made[0].step
    before = max(0, first - 1 - warmup) / max(1, planned - warmup)
    done = _progress(before, made, step)
    level = warmup_factor(schedule, first, planned)
    return (
        schedule.min_lr_ratio + (1 - schedule.min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * done))
    ) * level


def _progress(done: float, made: Sequence[Turn], step: int) -> float:
    """How much of the fall is over at ``step``: each turn spreads what is left over its own steps."""
    for turn, end in zip(made, [*(later.step for later in made[1:]), step + 1], strict=True):
        last = end - 1  # the last update under this turn, so far
        done += (1 - done) * max(0, last - turn.step + 1) / (turn.steps - turn.step + 1)
    return done
