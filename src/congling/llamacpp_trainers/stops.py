"""When a run ends before its iterations are done: three tests of the loss, in this order."""

from dataclasses import dataclass, field

import numpy as np


class Stop(Exception):
    """The run ends here, before the next update; the message says why."""


@dataclass
class StopTests:
    """State of the tests; a checkpoint holds it.

    Attributes:
        epsilon: ``--adam-epsf``.
        delta: ``--opt-delta``, for losses as far back as ``past`` is long.
        patience: ``--opt-max-no-improvement``; 0 for ever.
    """

    epsilon: float = 0.0
    delta: float = 1e-5
    patience: int = 0
    past: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    best: float | None = None
    previous: float | None = None
    no_improvement: int = 0

    def begin(self, loss: float) -> None:
        """Take the loss of the first pass of all runs."""
        self.best, self.previous = loss, loss
        if len(self.past):
            self.past[0] = loss

    def check(self, iteration: int, loss: float) -> None:
        """Take the loss of the pass after ``iteration`` updates.

        Raises:
            Stop: a test says that this is enough.
        """
        if self.previous is None or self.best is None:
            return self.begin(loss)
        reason = self._reason(iteration, loss)
        self.previous = loss
        if reason:
            raise Stop(reason)

    def _reason(self, iteration: int, loss: float) -> str:
        assert self.previous is not None and self.best is not None
        if self.epsilon > 0 and abs(loss - self.previous) < self.epsilon * abs(loss):
            return "the loss hardly changes (--adam-epsf)"
        if len(self.past):
            place = iteration % len(self.past)
            before, self.past[place] = float(self.past[place]), loss
            if iteration >= len(self.past) and abs(before - loss) < self.delta * abs(loss):
                return f"the loss has hardly changed for {len(self.past)} iterations (--opt-past)"
        improved = loss < self.best
        self.best, self.no_improvement = min(self.best, loss), 0 if improved else self.no_improvement + 1
        if self.patience > 0 and self.no_improvement >= self.patience:
            return f"no better loss for {self.no_improvement} iterations (--opt-max-no-improvement)"
        return ""
