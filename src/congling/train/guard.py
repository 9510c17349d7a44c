"""What must not end a run badly: Ctrl-C, and steps without a finite gradient."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from congling.core.errors import UserError
from congling.core.interrupt import stop_signals


class StopSignals:
    """Within the block, Ctrl-C, SIGTERM or SIGHUP asks to stop after the step; a second one stops at once."""

    def __init__(self) -> None:
        self.requested = False
        self.agreed = False
        """Set at a step when all processes know of the request."""
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            for number in stop_signals():
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


class SkippedSteps:
    """Counts steps whose gradient was not finite; gives up after ``limit`` in a row."""

    def __init__(self, limit: int) -> None:
        self.limit, self.total, self.consecutive = limit, 0, 0

    def count(self, step: int, skipped: bool) -> None:
        """Take note of one step.

        Raises:
            UserError: ``limit`` steps in a row were skipped; more batches will not mend the weights.
        """
        self.consecutive = self.consecutive + 1 if skipped else 0
        self.total += skipped
        if self.consecutive >= self.limit:
            raise UserError(
                f"{self.limit} steps in a row had a loss or gradient that is not a finite number",
                where=f"step {step}",
                hint="halve the learning rate (train.optimizer), lengthen train.schedule.warmup or use fp32; "
                "then start a new run, or go back to an earlier checkpoint",
            )
