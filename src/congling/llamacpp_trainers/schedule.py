"""Learning-rate factor of llama.cpp's trainers: linear warm-up, then a cosine in counted steps.

::

    classic   ╱╲_______     the cosine's clock also runs during the warm-up: it starts below 1,
             ╱  ╲           and stays on its floor after `decay_steps`
    fitted    ╱▔╲           first step above zero, cosine from the end of the warm-up to the run's end
             ╱   ╲
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Settings of ``factor``."""

    warmup: int = 100
    decay_steps: int = 1000
    floor: float = 0.1
    """Lowest value of the cosine."""
    least: float = 0.0
    """Lowest factor at any time, warm-up included: smallest rate divided by peak rate."""
    restart: float | None = None
    """The cosine begins anew after each period, which grows by this; ``None`` never."""

    def factor(self, step: int) -> float:
        """Share of the peak rate used by the update after ``step`` iterations."""
        return self.least + (1 - self.least) * self._shape(step)

    def _shape(self, step: int) -> float:
        if step < self.warmup:
            return step / self.warmup
        if self.restart is None:
            return self._cosine(min(step, self.decay_steps), self.decay_steps)
        step, period = step - self.warmup, max(1, self.decay_steps)
        while step > period:
            step, period = step - period, max(1, int(period * self.restart))
        return self._cosine(step, period)

    def _cosine(self, step: int, period: int) -> float:
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * step / max(1, period)))


@dataclass(frozen=True)
class FittedSchedule:
    """The same shape without its traps: it moves from the first step and ends where the run ends."""

    warmup: int
    end: int
    """Iteration after which the run ends."""
    floor: float = 0.1
    least: float = 0.0

    def factor(self, step: int) -> float:
        """Share of the peak rate used by the update after ``step`` iterations."""
        warmup = min(self.warmup, self.end // 10)
        if step < warmup:
            shape = (step + 1) / (warmup + 1)
        else:
            done = min(1.0, (step - warmup) / max(1, self.end - warmup))
            shape = self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * done))
        return self.least + (1 - self.least) * shape
