"""Learning-rate schedules: pure functions of the step, so a resumed run needs no scheduler state.

::

    wsd      ╱▔▔▔▔▔▔▔▔╲        cosine   ╱▔▔╲
            ╱          ╲               ╱    ╲▁
           warmup   decay  floor      warmup  floor
"""

import math

from congling.train.config import CosineConfig, WSDConfig


def learning_rate_factor(schedule: WSDConfig | CosineConfig, step: int, steps: int) -> float:
    """Share of the peak rate used by the update of ``step`` (0 ≤ step < steps); in (0, 1].

    The first update already moves (factor 1/warmup steps) and the last one is still above a floor of zero:
    a step whose rate is nothing would be wasted work.
    """
    warmup = warmup_steps(schedule, steps)
    if step < warmup:
        return warmup_factor(schedule, step, steps)
    if isinstance(schedule, CosineConfig):
        done = (step - warmup) / max(1, steps - warmup)
        return schedule.min_lr_ratio + (1 - schedule.min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * done))
    start = _decay_start(schedule, steps)
    if step < start:
        return 1.0
    done = (step - start + 1) / (steps - start + 1)
    remaining = 1 - done if schedule.decay_type == "linear" else 1 - math.sqrt(done)
    return schedule.min_lr_ratio + (1 - schedule.min_lr_ratio) * remaining


def warmup_steps(schedule: WSDConfig | CosineConfig, steps: int) -> int:
    """Updates of the warm-up in a run of so many steps."""
    if isinstance(schedule, WSDConfig) and schedule.warmup_steps is not None:
        return min(schedule.warmup_steps, steps)
    return round(schedule.warmup_ratio * steps)


def decay_start(schedule: WSDConfig | CosineConfig, steps: int) -> int | None:
    """Updates done before the rate begins to fall; None where the end is in every rate from the beginning on.

    Up to there a run knows nothing of its end: its state is that of any longer run with the same warm-up.
    """
    return None if isinstance(schedule, CosineConfig) else _decay_start(schedule, steps)


def _decay_start(schedule: WSDConfig, steps: int) -> int:
    return steps - min(round(schedule.decay_ratio * steps), steps - warmup_steps(schedule, steps))


def warmup_factor(schedule: WSDConfig | CosineConfig, step: int, steps: int) -> float:
    """Share of the peak rate that the warm-up of a run over so many steps allows at ``step``; 1 after it."""
    warmup = warmup_steps(schedule, steps)
    return (step + 1) / (warmup + 1) if step < warmup else 1.0
