"""How threads wait for one another at the end of each parallel piece of a step: awake or asleep.

Each matrix multiplication is shared out to threads, and OpenMP lets those that are done first spin: awake,
they go on at once. Beside another busy program this is the worst they can do, since the spinning keeps a
processor from the thread that everybody waits for::

                    thread 1  ████████▒▒▒▒▒▒████████▒▒▒▒▒▒      ▒ spins
    two processors  thread 2  ████      ████████      ████      displaced by
                    other     ····██████········██████····      another program

Asleep they give the processor away, and pay for being woken. Which is faster depends on what else runs, so
the run measures both, and again when its steps become slower or faster. The same threads do the same work
either way: results keep their bits.
"""

import ctypes
import os
import statistics
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from congling.core import machine

Manner = Literal["awake", "asleep"]
SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Environment variables by which a person says how threads wait; then nothing is changed here."""


class Threads:
    """Switches the threads of this process between the two manners; nothing where that is not possible."""

    def __init__(self) -> None:
        self.manner: Manner = "awake"
        self._sleep, self._wake = _switches() if _may_change() else (None, None)

    @property
    def switchable(self) -> bool:
        """Whether there are several threads, a runtime that can be told, and nobody who chose already."""
        return self._sleep is not None

    def wait(self, manner: Manner) -> None:
        """Let threads wait in this manner from now on."""
        if manner == self.manner or self._sleep is None or self._wake is None:
            return
        (self._sleep if manner == "asleep" else self._wake)()
        self.manner = manner


def threads() -> Threads:
    """The switch of this process: there is one, as there is one OpenMP."""
    global _threads
    if _threads is None:
        _threads = Threads()
    return _threads


_threads: Threads | None = None


def _may_change() -> bool:
    chosen = any(os.environ.get(name) for name in SETTINGS)
    return not chosen and torch.get_num_threads() > 1 and machine.processes() == 1


def _switches() -> tuple[Callable[[], None], Callable[[], None]] | tuple[None, None]:
    """What makes threads sleep, and what wakes them, for the OpenMP that torch has loaded."""
    try:
        library: Any = ctypes.CDLL(None)
    except (OSError, TypeError):  # no such thing on this system
        return None, None
    if hasattr(library, "kmp_set_blocktime") and hasattr(library, "kmp_get_blocktime"):  # LLVM's and Intel's
        usual = library.kmp_get_blocktime()
        return lambda: library.kmp_set_blocktime(0), lambda: library.kmp_set_blocktime(usual)
    if hasattr(library, "GOMP_parallel"):
        crowd = _Crowd()
        return crowd.gather, crowd.leave
    return None, None


class _Crowd:
    """More threads than processors, for GNU's OpenMP: it then spins for some microseconds only.

    Its libgomp has no call for this, but counts the threads of all teams, sleeping ones too. Each helper here
    is a thread that has a team of its own and does nothing with it.
    """

    def __init__(self) -> None:
        self._end = threading.Event()
        self._helpers: list[threading.Thread] = []

    def gather(self) -> None:
        """Bring the count above the number of processors."""
        team = torch.get_num_threads()
        missing = max(0, machine.cores() - team)
        self._end = threading.Event()
        for _ in range(missing // (team - 1) + 1):
            ready = threading.Event()
            helper = threading.Thread(
                target=_hold_a_team, args=(ready, self._end), name="waiting", daemon=True
            )
            helper.start()
            ready.wait()
            self._helpers.append(helper)

    def leave(self) -> None:
        """Take the helpers away; their teams end with them."""
        self._end.set()
        for helper in self._helpers:
            helper.join()
        self._helpers = []


def _hold_a_team(ready: threading.Event, end: threading.Event) -> None:
    torch.zeros(1 << 18).add_(1.0)  # large enough to be shared out
    ready.set()
    end.wait()


TRIAL_STEPS, TRIAL_SECONDS, LONG_TRIAL = 3, 0.4, 2.0
"""A manner is tried for so many steps and so much time at least; one step that took the last is enough."""
CHANGED = 1.25
"""Steps are tried anew in the other manner when their pace changed by this factor."""
BETTER = 1.03
"""What the other manner must save to be taken: less may be chance."""
HOPELESS = 1.6
"""A trial whose first steps are slower by this factor is broken off."""
REST = (6, 24)
"""Steps after a trial that brought nothing before the next one: twice as many each time, up to the second."""


@dataclass
class Choice:
    """Keeps the faster manner: after every step it is told the seconds, and may change the manner.

    ::

        awake 3 steps ─ asleep 3 steps ─ the faster one … pace changed by a quarter ─ 3 steps of the other …
    """

    threads: Threads
    say: Callable[[str], None] = lambda text: None
    pace: dict[Manner, float] = field(default_factory=dict)
    """Seconds of a step as last measured in each manner."""
    skip: int = 2
    """First steps of a run are not measured: they allocate and compile."""
    _changed: bool = False
    _rest: int = 0
    _next_rest: int = REST[0]
    _recent: list[float] = field(default_factory=list)
    _before: Manner | None = None
    """The manner to go back to, during a trial."""

    def take(self, seconds: float) -> None:
        """Take note of a step that took so long."""
        if not self.threads.switchable:
            return
        if self.skip > 0:
            self.skip -= 1
            return
        self._recent.append(seconds)
        if self._before is not None:
            self._try(self._before)
        elif (pace := self._settled()) is not None:
            self._compare(self.threads.manner, pace)

    def _compare(self, manner: Manner, pace: float) -> None:
        """Try the other manner where this one's pace is new, or was another for two measurements in a row."""
        known = self.pace.get(manner)
        self._rest -= 1
        changed = known is not None and not 1 / CHANGED < pace / known < CHANGED
        if known is None or (changed and self._changed):
            self.pace[manner], self._changed, self._before = pace, False, manner
            self._switch(other(manner))
        elif changed and self._rest < 0:
            self._changed = True
            self._recent.clear()  # the steps before the change say nothing of the new pace
        else:
            self._changed = False
            del self._recent[0]

    def _settled(self) -> float | None:
        """Seconds of a step over the last ones, once they are enough."""
        steps, seconds = len(self._recent), sum(self._recent)
        enough = seconds >= LONG_TRIAL or (steps >= TRIAL_STEPS and seconds >= TRIAL_SECONDS)
        return seconds / steps if enough else None

    def _try(self, before: Manner) -> None:
        usual, pace = self.pace[before], self._settled()
        if pace is None and len(self._recent) >= 2 and min(self._recent) > HOPELESS * usual:
            pace = statistics.fmean(self._recent)
        if pace is None:
            return
        tried, self._before = self.threads.manner, None
        self.pace[tried] = pace
        if pace * BETTER < usual:
            self._recent.clear()
            self._rest, self._next_rest = 0, REST[0]
            self.say(_told(tried, usual / pace))
        else:
            self._switch(before)
            self._rest, self._next_rest = self._next_rest, min(REST[1], 2 * self._next_rest)

    def _switch(self, manner: Manner) -> None:
        self.threads.wait(manner)
        self._recent.clear()


def other(manner: Manner) -> Manner:
    """The manner that is not this one."""
    return "awake" if manner == "asleep" else "asleep"


def _told(manner: Manner, factor: float) -> str:
    when = "as beside other programs" if manner == "asleep" else "as on processors of one's own"
    return f"threads now wait {manner} for one another: {factor:.1f} times as fast here, {when}"
