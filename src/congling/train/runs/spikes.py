"""Loss spikes and divergence, seen in the rows of the metrics as they are written: plain numbers, no torch.

::

    loss   ▁▁▁▁▂▁▁▁▂▁▁▁▇▇▇       ceiling   highest of the last 24 rows that were in order
           ──────────────           margin    the largest jump between two of them, a quarter of their
           ceiling + margin                   median, or a tenth of the first loss: whichever is most
                                    spike     three of five rows above ceiling + margin; or a single one
                                              above the ceiling by the first loss, 5 nats and three jumps

A step that goes wrong shows in the loss of the step after it, so most spikes are named two to four steps
after the update that did it. While the loss falls the ceiling is where it was a while ago, and noise is
measured between neighbours: neither the early descent nor small batches look like spikes.

What is seen follows from the rows alone, in their order: reading them again from the log of a run gives the
same, so that a resumed run sees what an undisturbed one does.
"""

import math
import statistics
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeGuard

ROWS = 24
"""Rows in order that the next one is compared with."""
LEAST_ROWS = 5
"""Fewest of them for a judgement."""
WITHIN, NEEDED = 5, 3
"""So many of so many rows have to be too high."""
QUIET = 5
"""Rows in order after which a spike is over."""
BLOCK = 20
"""Rows whose median is compared with the best so far, against a loss that climbs too slowly for a spike."""
SHARE_OF_LEVEL, SHARE_OF_FIRST = 0.25, 0.1
ALONE_NATS, ALONE_JUMPS = 5.0, 3.0
"""How far above the ceiling a single row is enough, besides the first loss: in nats, and in largest jumps."""
DIVERGENCE_OF_POLICY = 10.0
"""Nats per token of KL from the base that no policy reaches unless it breaks."""


@dataclass(frozen=True)
class Spike:
    """A loss that left its course."""

    step: int
    """Where that was certain."""
    onset: int
    """The first row that was too high; what did it happened in the step before, or in its batch."""
    name: str
    """``loss``, or ``kl`` of a policy."""
    usual: float
    """Median of the rows before."""
    value: float
    """The highest so far."""
    lasting: bool = False
    """Whether it has not come back in :data:`ROWS` steps: the run diverged."""

    @property
    def code(self) -> str:
        """Short stable name."""
        return "diverged" if self.lasting else "loss-spike"

    @property
    def what(self) -> str:
        """What happened, in one clause."""
        since = "and has not come back" if self.lasting else f"at step {self.onset:,}"
        return f"the {self.name} rose from {self.usual:.4g} to {self.value:.4g} {since}"


class SpikeDetector:
    """Judges one row after another.

    Args:
        text: whether the loss is nats per token of text, of which a single very high one is no accident. Of
            other losses (of pairs of answers, say) only rows that stay high are. The loss of a policy, whose
            rows hold a ``reward``, says nothing: there the KL from the base is looked at, where it is known.
    """

    def __init__(self, *, text: bool = True) -> None:
        self.text = text
        self.recovered = True
        """Whether the last spike, if there was one, is over: the loss is back where it was."""
        self._usual: deque[float] = deque(maxlen=ROWS)
        self._recent: deque[tuple[int, float, bool]] = deque(maxlen=WITHIN)
        self._block: list[float] = []
        self._best = math.inf
        self._first: float | None = None
        self._spike: Spike | None = None
        self._bar = math.inf
        self._since = self._quiet = 0

    def read(self, rows: Iterable[Mapping[str, Any]]) -> list[Spike]:
        """Judge the rows of a log; returns all spikes in it."""
        return [found for row in rows if (found := self.see(row)) is not None]

    def see(self, row: Mapping[str, Any]) -> Spike | None:
        """Judge the next row (``step``, ``loss``, ``skipped`` …); a spike where one is certain with it.

        Rows of held-out numbers and of skipped steps, which changed nothing, are passed over.
        """
        name = "kl" if "reward" in row else "loss"
        value, step = row.get(name), row.get("step")
        if not (_is_number(value) and _is_number(step)) or row.get("skipped"):
            return None
        value, step = float(value), int(step)
        if self._first is None:
            self._first = DIVERGENCE_OF_POLICY if name == "kl" else abs(value)
        margin = self._margin()
        bar = math.inf if margin is None else max(self._usual) + margin
        high = value > bar
        if not self.recovered:
            self._quiet = 0 if value > self._bar else self._quiet + 1
            self.recovered = self._quiet >= QUIET
        if self._spike is not None:
            return self._after(step, value)
        if len(self._recent) == WITHIN and self._recent[0][2]:
            self._usual.append(self._recent[0][1])  # an accident that came to nothing: noise, then
        self._recent.append((step, value, high))
        if not high:
            self._usual.append(value)
            return self._climbing(step, name)
        places = [(at, one) for at, one, too_high in self._recent if too_high]
        alone = self.text and name == "loss" and value > max(self._usual) + self._alone()
        if not alone and len(places) < NEEDED:
            return None
        found = Spike(step, places[0][0], name, statistics.median(self._usual), max(v for _, v in places))
        return self._begin(found, bar)

    def _margin(self) -> float | None:
        """How far above the ceiling is too high; None before there is enough to compare with."""
        if len(self._usual) < LEAST_ROWS or self._first is None:
            return None
        level = statistics.median(self._usual)
        return max(self._largest_jump(), SHARE_OF_LEVEL * abs(level), SHARE_OF_FIRST * self._first)

    def _alone(self) -> float:
        """How far above the ceiling one row is enough."""
        if len(self._usual) < ROWS // 2:  # too few to know what is usual: something of another order alone
            return 9 * max(self._usual) + ALONE_NATS
        return max(ALONE_JUMPS * self._largest_jump(), self._first or 0.0, ALONE_NATS)

    def _largest_jump(self) -> float:
        """Between two neighbours among the rows in order: their noise, whatever the trend."""
        return max(abs(b - a) for a, b in pairwise(self._usual))

    def _begin(self, spike: Spike, bar: float) -> Spike:
        self._spike, self._bar, self.recovered = spike, bar, False
        self._since = self._quiet = 0
        self._block.clear()
        self._recent.clear()
        return spike

    def _after(self, step: int, value: float) -> Spike | None:
        """A row after a spike: whether it is over, or has lasted too long."""
        assert self._spike is not None
        self._since += 1
        self._spike = replace(self._spike, value=max(self._spike.value, value))
        if self.recovered:
            self._spike = None
        if self._spike is None or self._since < ROWS:
            return None
        lasting = replace(self._spike, step=step, lasting=True)
        self._spike = None  # from here on the new level counts as the usual one
        self._usual.clear()
        self._best = math.inf
        return lasting

    def _climbing(self, step: int, name: str) -> Spike | None:
        """Compare the medians of whole blocks with the best one: a loss that climbs for long has diverged."""
        self._block.append(self._usual[-1])
        if len(self._block) < BLOCK:
            return None
        level, margin = statistics.median(self._block), self._margin()
        self._block.clear()
        if margin is None or level <= self._best + margin:
            self._best = min(self._best, level)
            return None
        best, self._best, self.recovered = self._best, math.inf, False
        self._bar, self._quiet = best + margin, 0
        return Spike(step, step - BLOCK + 1, name, best, max(self._usual), lasting=True)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
