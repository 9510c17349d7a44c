"""Keep a time budget: while the run trains, decide where the learning rate begins to fall and the run ends.

A plan guesses how long a step takes; another program beside it may double that. So the run looks at the clock
after every step, goes on at the full rate, and lets the rate fall when what is left of the budget is just
what the fall needs::

    rate  ╱▔▔▔▔▔▔▔▔▔╲             planned                ╱▔▔▔▔▔╲        the machine became slow
         ╱           ╲                                  ╱       ╲
        0     stable    decay  S                       0  turn ─→ S'

Each decision is a :class:`Turn`, recorded in ``schedule.json`` and in every checkpoint before a step is taken
by it. A run that is gone on with follows the record and decides nothing anew, so it ends with the same bits.
No torch.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from congling.core.artifact import read_sealed, write_sealed
from congling.core.config import Config
from congling.core.errors import UserError
from congling.core.numbers import finite
from congling.core.output import warn
from congling.train.config import CosineConfig, Interval, TrainConfig, WSDConfig
from congling.train.runs.turns import Turn, factor_with
from congling.train.schedule import decay_start

SCHEDULE_FILE = "schedule.json"
"""The decisions of a run, in its directory."""
AIM = 0.985
"""Share of the budget that is aimed at: what is estimated may take a little longer."""
TOLERANCE, PATIENCE = 0.03, 0.2
"""A fall is shortened when it would end late by more than this share of the budget, and of the time that is
left: far from the end there is time to see whether it stays so. It is stretched alike."""
RECENT_LOOKS, RECENT_SECONDS, RECENT_SHARE = 6, 6.0, 0.2
"""The pace is the mean over so many looks, so much time, and so large a share of what is left at least:
stalls count, old times do not."""
LAST_LOOKS, OVER = 3, 1.3
"""Once a slow time is over, the pace is at most so many times that of the last measurements."""
LEAST_STEPS = 3
"""Before so many steps were taken, the plan's estimate stands for the others."""


class DeadlineConfig(Config):
    """When a run has to be over, and what the plan knows of the time that it takes."""

    seconds: PositiveFloat
    """The budget: from the start of the program to its end."""
    most_steps: PositiveInt
    """The run never takes more steps, however fast they are: as many as were asked for, or as the text
    bears."""
    step: PositiveFloat
    """Planned seconds of a step."""
    evaluation: NonNegativeFloat = 0.0
    """Planned seconds of a held-out loss."""
    sampling: NonNegativeFloat = 0.0
    """Planned seconds of the samples of one step."""
    saving: NonNegativeFloat = 0.0
    """Planned seconds of a checkpoint."""
    evaluations_after: NonNegativeFloat = 0.0
    """What the score after training takes, in evaluations."""
    samplings_after: NonNegativeFloat = 0.0
    """What the texts written after training take, in samplings."""
    after: NonNegativeFloat = 0.0
    """Planned seconds of all else after training: opening the model, the report."""
    scored_tokens: PositiveInt | None = None
    """Held-out tokens that the final score reads, spread over all of them; all when not given."""


class Deadline:
    """Decides, records and replays the turns of one run; on the first process it looks at the clock.

    Attributes:
        turns: all that are known, also those that a run gone on with is still to come to.
        expected: the step at which the run will end, as things stand.
    """

    def __init__(
        self,
        settings: DeadlineConfig,
        train: TrainConfig,
        *,
        started: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin; ``started`` is the clock's time at which the budget began, by default now."""
        self.settings, self.train, self.clock = settings, train, clock
        self._started = clock() if started is None else started
        self.turns: list[Turn] = []
        self.expected = train.max_steps
        self._file: Path | None = None
        self._begun, self._replays, self._spent = False, False, 0.0
        self._mark: tuple[int, float] | None = None
        self._recent: deque[tuple[int, float]] = deque(maxlen=10_000)
        self._pace = self._pace_after = settings.step
        self._took: dict[str, float] = {}  # pauses, in steps

    @property
    def steps(self) -> int:
        """Steps of the whole run as far as it is decided, else the most it may take."""
        if self.turns:
            return self.turns[-1].steps
        return (
            self.train.max_steps
            if isinstance(self.train.schedule, CosineConfig)
            else self.settings.most_steps
        )

    @property
    def began(self) -> int | None:
        """The step after which the rate falls, once that is decided: a longer run goes on from its
        checkpoint; ``None`` where no step is free of the end."""
        return self.turns[0].step if self.turns and isinstance(self.train.schedule, WSDConfig) else None

    def factor(self, step: int) -> float:
        """Share of the peak rate of the update of ``step``."""
        return factor_with(self.train.schedule, self.train.max_steps, self.turns, step)

    def elapsed(self) -> float:
        """Seconds of the budget used up: by this process, and by those that the run was begun with."""
        return self._spent + self.clock() - self._started

    def open(self, run: Path) -> None:
        """Take the record that an earlier process left in the run's directory, if there is one."""
        self._file = run / SCHEDULE_FILE
        self._take(recorded(run))

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: the time used, and the turns so far."""
        return {"elapsed": self.elapsed(), "turns": [asdict(turn) for turn in self.turns]}

    def restore(self, state: Mapping[str, Any], step: int) -> None:
        """Go on from the checkpoint of ``step``; turns recorded after it are made again where they were.

        A run that goes back to a checkpoint while it trains keeps its time and its turns.
        """
        if self._begun:
            return
        self._spent = max(0.0, finite(state.get("elapsed")) or 0.0)
        known = _turns(state.get("turns", ()))
        same = self.turns[: len(known)] == known  # else the record was lost, or is another run's
        later = [turn for turn in self.turns[len(known) :] if turn.step >= step] if same else []
        self._take([*known, *later])
        self._write()

    def told(self) -> str:
        """All turns as JSON, for other processes."""
        return json.dumps([asdict(turn) for turn in self.turns])

    def hear(self, text: str) -> None:
        """Take the turns that the first process knows; from here on time runs, and nothing is forgotten."""
        self._take(_turns(json.loads(text)))
        self._begun = True

    def _take(self, turns: Sequence[Turn]) -> None:
        self.turns = list(turns)
        self._replays = bool(turns)
        if turns:
            self.expected = turns[-1].steps

    def look(self, step: int, pauses: Mapping[str, float]) -> Turn | None:
        """Take note of the step just done, and decide whether to turn now; the first process alone asks.

        Args:
            step: updates done so far; asked at 0 as well.
            pauses: seconds that the last pause of each kind took, of those since the last decision:
                ``evaluation``, ``sampling``, ``saving``.
        """
        self._note(step, pauses)
        self._begun = True
        if self._replays or step >= self.steps or (self.turns and step <= self.turns[-1].step):
            return None
        fitting = self._fitting(step)
        if not self.turns and isinstance(self.train.schedule, WSDConfig):
            self.expected = step + fitting
            return self._turn(step, fitting) if self._falls_now(step, fitting) else None
        rest = self.steps - step
        late = (rest - fitting) * self._cost_of_a_step()
        bearable = max(TOLERANCE * self.settings.seconds, PATIENCE * self._left())
        if abs(late) < bearable or fitting == rest:
            return None
        return self._turn(step, fitting)

    def make(self, turn: Turn) -> None:
        """Carry out a turn; it is on the disk before the next step is taken."""
        self.turns.append(turn)
        self.expected = turn.steps
        self._write()

    def _write(self) -> None:
        if self._file is not None and self.turns:
            content = {"turns": [asdict(one) for one in self.turns]}
            write_sealed(self._file, content)

    def _turn(self, step: int, fitting: int) -> Turn:
        return Turn(step, step + fitting, round(self.elapsed(), 3), round(self._pace, 6))

    def _falls_now(self, step: int, fitting: int) -> bool:
        """Whether a run that ended after so many more steps would begin to fall here."""
        schedule, steps = self.train.schedule, step + fitting
        assert isinstance(schedule, WSDConfig)
        start = decay_start(schedule, steps)
        decay = steps - (steps if start is None else start)
        if not decay and steps == self.settings.most_steps:
            return False  # it is over there without a word
        return fitting <= max(1, decay)

    def _note(self, step: int, pauses: Mapping[str, float]) -> None:
        now = self.clock()
        if self._mark is not None and step > self._mark[0]:  # the first step also compiles and allocates
            before, mark = self._mark
            self._recent.append((step - before, max(0.0, now - mark - sum(pauses.values()))))
        self._mark = (step, now) if step else None
        just_now = self._mean(0.0, LAST_LOOKS)
        span = max(RECENT_SECONDS, RECENT_SHARE * self._left())
        self._pace = min(self._mean(span, RECENT_LOOKS), OVER * just_now)
        calm = self._mean(RECENT_SHARE * self.settings.seconds, RECENT_LOOKS)
        self._pace_after = min(calm, OVER * just_now)
        self._took |= {name: seconds / just_now for name, seconds in pauses.items()}

    def _mean(self, span: float, least: int) -> float:
        """Seconds of a step over the last so many seconds and looks."""
        looks, steps, seconds = 0, 0, 0.0
        for count, took in reversed(self._recent):
            if looks >= least and seconds + took > span:
                break
            looks, steps, seconds = looks + 1, steps + count, seconds + took
        missing = max(0, LEAST_STEPS - steps)  # one step alone may be a stall
        return (seconds + missing * self.settings.step) / (steps + missing)

    def _left(self) -> float:
        return max(0.0, self.settings.seconds - self.elapsed())

    def _slowness(self) -> float:
        """How many times slower than planned the machine is, within reason."""
        return min(4.0, max(1.0, self._pace_after / self.settings.step))

    def _seconds_of(self, name: str) -> float:
        """Seconds of the next pause of a kind: as the last one, or as planned; slow where steps are slow."""
        if name in self._took:
            return self._took[name] * self._pace_after
        return getattr(self.settings, name) * self._slowness()

    def _cost_of_a_step(self) -> float:
        """Seconds of a step with its part of what interrupts the steps now and then."""
        kinds: tuple[tuple[str, Interval], ...] = (
            ("evaluation", "evaluate"),
            ("sampling", "sample"),
            ("saving", "save"),
        )
        return max(
            1e-6, self._pace + sum(self._seconds_of(kind) / self.train.interval(key) for kind, key in kinds)
        )

    def _fitting(self, step: int) -> int:
        """Steps that still fit, at least one."""
        config = self.settings
        closing = (
            (1 + config.evaluations_after) * self._seconds_of("evaluation")
            + (1 + config.samplings_after) * self._seconds_of("sampling")
            + self._seconds_of("saving")
            + config.after * self._slowness()
        )
        left = AIM * config.seconds - self.elapsed() - closing
        return max(1, min(int(left / self._cost_of_a_step()), config.most_steps - step))


def recorded(run: Path) -> list[Turn]:
    """The turns that a run's directory records; none where there is no record, or a damaged one."""
    try:
        content = json.loads(read_sealed(run / SCHEDULE_FILE))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError, UserError) as error:
        why = f"{run / SCHEDULE_FILE} cannot be read ({type(error).__name__})"
        warn(f"{why}: what the newest checkpoint knows of it counts")
        return []
    return _turns(content.get("turns", ()) if isinstance(content, dict) else ())


def _turns(rows: Any) -> list[Turn]:
    names = ("step", "steps", "elapsed", "pace")
    try:
        found = [Turn(**{name: row[name] for name in names}) for row in rows]
        ordered = all(0 <= turn.step < turn.steps for turn in found)
    except (TypeError, KeyError):
        return []
    rising = all(one.step < after.step for one, after in pairwise(found))
    return found if ordered and rising else []
