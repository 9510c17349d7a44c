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
    warmup = round(schedule.warmup * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if isinstance(schedule, CosineConfig):
        done = (step - warmup) / max(1, steps - warmup)
        return schedule.floor + (1 - schedule.floor) * 0.5 * (1 + math.cos(math.pi * done))
    decay = min(round(schedule.decay * steps), steps - warmup)
    start = steps - decay
    if step < start:
        return 1.0
    done = (step - start + 1) / (decay + 1)
    remaining = 1 - done if schedule.shape == "linear" else 1 - math.sqrt(done)
    return schedule.floor + (1 - schedule.floor) * remaining
