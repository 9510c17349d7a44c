"""The lines that llama.cpp's trainers print, so that whoever reads or parses them need not learn others."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from congling.core.text import printable

Print = Callable[[str], None]


def say(line: str) -> None:
    """Print a line at once, also into a pipe."""
    print(printable(line), flush=True)


def duration(milliseconds: float) -> str:
    """Below a second as ``12.3ms``, else as ``01:02:03``, with days in front where there are any."""
    if milliseconds < 1000:
        return f"{milliseconds:.1f}ms"
    seconds = int(milliseconds) // 1000
    days, seconds = divmod(seconds, 86400)
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{days}d {clock}" if days else clock


def size_line(name: str, size: int) -> str:
    """A size in bytes and in MB."""
    return f"main: {name} = {size} bytes ({size / 1024 / 1024:.1f} MB)"


@dataclass
class IterationLog:
    """One line an iteration, with a bar that grows as the loss falls below the first one of this run.

    Attributes:
        last: iteration after which this run ends.
    """

    last: int
    out: Print = say
    clock: Callable[[], float] = time.monotonic
    first_loss: float | None = field(default=None, init=False)
    _before: float | None = field(default=None, init=False)
    _mean: float = field(default=0.0, init=False)

    def line(self, iteration: int, sample: str, factor: float, loss: float | None) -> None:
        """Print the line before the pass of ``iteration``; ``loss`` is that of the pass before, if any."""
        text = f"train_opt_callback: iter={iteration:6d} sample={sample} sched={factor:f} loss={loss or 0:f}"
        dashes = 1
        if loss is not None:
            self.first_loss = loss if self.first_loss is None else self.first_loss
            gain = 1 + 10 * (self.first_loss - loss) + 0.5
            dashes = max(0, int(gain)) if gain == gain else 0
            remaining = self._mean * (self.last - iteration)
            text += f" dt={duration(self._mean)} eta={duration(remaining)}"
        self.out(f"{text} |{'-' * min(dashes, 1000)}>")

    def passed(self) -> None:
        """An iteration is over: take its time. Saving and the like come between this and ``resumed``."""
        if self._before is not None:
            measured = 1000 * (self.clock() - self._before)
            self._mean = 0.3 * self._mean + 0.7 * measured if self._mean else measured

    def resumed(self) -> None:
        """The next iteration begins now."""
        self._before = self.clock()
