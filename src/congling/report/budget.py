"""A time budget after a run: what it took, and why."""

import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from congling.core.units import plural, show_seconds
from congling.report.record import RunRecord, mapping, numeric
from congling.train.runs.deadline import recorded

NOTABLE = 1.15
"""A step that took longer by this factor than planned is a reason that is named."""
EARLY, LATE = 0.95, 1.1
"""Shares of the budget below and above which the end is explained."""
LONG = 3.0
"""Times the median step from which on a step counts as a stall."""


@dataclass(frozen=True)
class Pace:
    """What steps took, beside the plan; seconds of wall-clock time."""

    planned: float
    """A step of the plan, with its part of held-out losses, samples and checkpoints."""
    taken: float
    """The same as it was: the mean, so that what stood still counts."""
    median: float | None = None
    """A step without what interrupts it, in the middle of all of them."""
    stalled: float = 0.0
    """Seconds that single steps took beyond the median, where it was several times as much."""

    @property
    def slowness(self) -> float:
        """How many times as long as planned."""
        return self.taken / self.planned


def pace_of(run: RunRecord) -> Pace | None:
    """Compare the time of a run's steps with its plan; ``None`` where one of them is not known."""
    cost = mapping(run.plan.get("cost"))
    seconds, steps = mapping(cost.get("time")), numeric(mapping(run.plan.get("train")).get("max_steps"))
    parts = [numeric(seconds.get(name)) for name in ("steps", "held-out loss", "samples", "checkpoints")]
    at = run.seconds_at()
    if not steps or len(at) < 2 or any(part is None for part in parts):
        return None
    first, last = min(at), max(at)
    taken = (at[last] - at[first]) / (last - first)
    planned = sum(part for part in parts if part is not None) / steps
    if taken <= 0 or planned <= 0:
        return None
    each = _each(run)
    middle = statistics.median(each) if each else None
    stalled = sum(one - middle for one in each if one > LONG * middle) if middle else 0.0
    return Pace(planned, taken, middle, stalled)


def _each(run: RunRecord) -> list[float]:
    """Seconds of single steps, from the timing log and the tokens of a step."""
    speeds = [speed for row in run.timing if (speed := numeric(row.get("tokens_per_second")))]
    last = next((row for row in reversed(run.steps) if row.step), None)
    return [last.tokens / last.step / speed for speed in speeds] if last is not None else []


@dataclass(frozen=True)
class Kept:
    """How a run came out against its budget."""

    budget: float
    took: float
    planned_steps: int
    steps: int
    why: tuple[str, ...]
    """Reasons of the difference; empty where there is none to speak of."""

    def lines(self) -> list[str]:
        """For the terminal."""
        steps = f"{self.steps:,} {plural(self.steps, 'step')}"
        planned = "as planned" if self.steps == self.planned_steps else f"planned were {self.planned_steps:,}"
        first = f"took {show_seconds(self.took)} of {show_seconds(self.budget)}: {steps}, {planned}"
        return [first, *(f"  {reason}" for reason in self.why)]

    def to_json(self) -> dict[str, Any]:
        """Plain values, for ``results.json``."""
        return asdict(self) | {"why": list(self.why)}


def came_out(run: RunRecord, here: float) -> Kept | None:
    """How a run that was finished just now came out against its budget; see :func:`kept`.

    ``here``: seconds since this process began. ``None`` of a run that was finished before that.
    """
    took = _time_used(run, here)
    return None if took is None else kept(run, took)


def _time_used(run: RunRecord, here: float) -> float | None:
    """Seconds of its budget that a run used by now, those of earlier processes included."""
    turns = [row for row in run.events if row.get("event") in ("started", "resumed", "finished")]
    if not turns or turns[-1].get("event") != "finished":
        return None
    elapsed, at = numeric(turns[-1].get("elapsed")), str(turns[-1].get("time"))
    try:
        since = (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds()
    except (ValueError, TypeError):
        return None
    if elapsed is None or since > here + 1.0:  # such times are in whole seconds
        return None
    again = any(row.get("event") == "resumed" for row in turns)
    return elapsed + max(0.0, since) if again else here


def kept(run: RunRecord, took: float) -> Kept | None:
    """What a finished run's budget, plan and clock have to say to one another; ``None`` without a deadline.

    ``took``: seconds of the budget that it used, from the start of the program to its end.
    """
    limits, train = mapping(run.config.get("deadline")), mapping(run.config.get("train"))
    budget, planned = numeric(limits.get("seconds")), numeric(train.get("max_steps"))
    if budget is None or planned is None or not run.steps:
        return None
    steps, most = run.steps[-1].step, numeric(limits.get("most_steps"))
    reasons = (*_of_steps(run, steps, int(planned)), *_of_the_end(took / budget, steps == most))
    return Kept(budget, took, int(planned), steps, reasons)


def _of_steps(run: RunRecord, steps: int, planned: int) -> Iterator[str]:
    pace, turns = pace_of(run), recorded(run.path)
    if pace is not None and not 1 / NOTABLE < pace.slowness < NOTABLE:
        how = f"{pace.slowness:.1f} times as long as" if pace.slowness > 1 else "less than"
        cause = f": {cause_of(pace)}" if pace.slowness > 1 else ""
        yield f"a step took {show_step(pace.taken)}, {how} planned ({show_step(pace.planned)}){cause}"
    if turns and steps != planned:
        times = f"{len(turns) - 1} {plural(len(turns) - 1, 'time')}"
        moved = f", and the end was moved {times}" if turns[1:] else ""
        yield f"so that it ends in time, the rate fell from step {turns[0].step:,} on{moved}"


def _of_the_end(share: float, all_steps: bool) -> Iterator[str]:
    if all_steps and share < EARLY:
        yield "no more steps were asked for, or more passes over the text would only overfit"
    if share > LATE:
        yield "what comes before or after training took longer than planned"


def show_step(seconds: float) -> str:
    """``"430 ms"``, ``"1.2 s"``."""
    return f"{1000 * seconds:,.3g} ms" if seconds < 1 else show_seconds(seconds)


def cause_of(pace: Pace) -> str:
    """Why steps took longer than planned, as far as it can be seen."""
    if pace.median is not None and pace.stalled > 0.2 * (pace.taken - pace.planned) > 0:
        return f"single steps stood still, for {show_seconds(pace.stalled)} in all"
    return "other programs used the machine, or it slows down when warm"
