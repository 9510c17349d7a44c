"""Guards of a run: Ctrl-C, and steps without a finite gradient."""

from types import FrameType

from congling.core.errors import UserError
from congling.core.interrupt import OnStopSignals


class StopSignals(OnStopSignals):
    """Within the block, Ctrl-C, SIGTERM or SIGHUP asks to stop after the step; a second one stops at once."""

    def __init__(self) -> None:
        super().__init__()
        self.requested = False
        self.agreed = False
        """Set at a step when all processes know of the request."""

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Take note of the request.

        Raises:
            KeyboardInterrupt: it is not the first.
        """
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
                hint="halve the learning rate (train.optimizer), lengthen "
                "train.schedule.warmup_ratio or use fp32; "
                "then start a new run, or go back to an earlier checkpoint",
            )
