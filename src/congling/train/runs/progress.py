"""One line for people: where the run is, how good, how fast, and when it ends."""

import time

from congling.core import terminal
from congling.core.units import show_rate, show_seconds

PLAIN_INTERVAL = 10.0  # seconds between lines where the output is no terminal
LIVE_INTERVAL = 0.2


class ProgressLine:
    """A line on standard error, rewritten in place on a terminal and repeated every few seconds elsewhere."""

    def __init__(self, steps: int, first: int, counted: str = "tokens") -> None:
        self.steps, self.first, self.counted = steps, first, counted
        self.live = terminal.rewrites()
        self.started, self.shown = time.monotonic(), float("-inf")

    def show(self, step: int, loss: str, tokens_per_second: float, utilisation: float | None) -> None:
        """Show the state after ``step``, unless that was done a moment ago; the last step is always shown."""
        now = time.monotonic()
        if now - self.shown < (LIVE_INTERVAL if self.live else PLAIN_INTERVAL) and step < self.steps:
            return
        self.shown = now
        left = (now - self.started) / max(1, step - self.first) * (self.steps - step)
        pace = (
            f"{show_seconds(left)} left" if step < self.steps else f"took {show_seconds(now - self.started)}"
        )
        # what a narrow window cuts off stands last
        parts = [f"step {step}/{self.steps}", pace, loss, show_rate(tokens_per_second, self.counted)]
        if utilisation is not None:
            parts.append(f"{utilisation:.0%} of matmul peak")
        self._write(" · ".join(parts), keep=step >= self.steps)

    def note(self, text: str) -> None:
        """Print something that stays, above the line."""
        terminal.say(text)

    def _write(self, text: str, *, keep: bool) -> None:
        if self.live and not keep:
            terminal.show(text)
        else:
            terminal.say(text)
