"""A line for whatever works in silence for two seconds: what it is, how much is done, and how long it takes.

::

    with stage("measuring the machine", seconds=4):     measuring the machine: 2.3 s, about 1.7 s left
    for item in track(items, "writing", total=9):       writing: 33 %, 5 s left

On a terminal the line is rewritten; elsewhere it is said once, then every ten seconds, then every minute,
and with the time it took when it is over. Stages stand within each other; the innermost is what is shown.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from congling.core import terminal
from congling.core.machine import is_first_process

T = TypeVar("T")
PATIENCE = 2.0  # seconds a person waits without wondering
_AGAIN, _LONG, _SELDOM = 10.0, 60.0, 60.0  # seconds between lines; after how long, how many
_INTERVAL = 0.25  # seconds between looks
_LIBRARIES = (
    "torch",
    "transformers",
    "numpy",
    "pyarrow",
    "tokenizers",
    "xllamacpp",
    "lm_eval",
    "trl",
    "peft",
)
"""What takes seconds to load."""


@dataclass(eq=False)
class Stage:
    """Work that is going on."""

    label: str
    """What is being done; empty where silence is right, as while a person is asked."""
    total: float | None = None
    unit: str = ""
    seconds: float | None = None
    """How long it is expected to take."""
    done: float = 0.0
    started: float = field(default_factory=time.monotonic)
    said: float | None = None
    """When it was last shown."""
    ends: bool = True
    """Whether the time that it took is worth a line where lines stay."""
    patient: bool = False
    """Within a stage that is quiet: this one must itself have taken a while before it is shown."""

    def line(self) -> str:
        """In a line, as of now."""
        from congling.core.units import show_seconds

        elapsed = time.monotonic() - self.started
        if library := _loading():
            return f"loading {library}: {show_seconds(elapsed)}"
        if not self.total:
            left = None if self.seconds is None else self.seconds - elapsed
            rest = f", about {show_seconds(left)} left" if left is not None and left > 0 else ""
            return f"{self.label}: {show_seconds(elapsed)}{rest}"
        if not self.done:
            return f"{self.label}: {show_seconds(elapsed)}"
        share = min(1.0, self.done / self.total)
        counted = f", {self.done:.0f} of {self.total:.0f} {self.unit}" if self.unit else ""
        left = f", {show_seconds(elapsed * (1 - share) / share)} left" if 0 < share < 1 else ""
        return f"{self.label}: {share:.0%}{counted}{left}"

    def over(self) -> str:
        """What it took."""
        from congling.core.units import show_seconds

        counted = f"{self.done:.0f} of {self.total:.0f} {self.unit}, " if self.total and self.unit else ""
        return f"{self.label}: {counted}took {show_seconds(time.monotonic() - self.started)}"

    def due(self, shown: str) -> bool:
        """Whether a line would help; ``shown`` is what a stage showed last."""
        elapsed = time.monotonic() - self.started
        if not terminal.attended() or (self.patient and elapsed < PATIENCE):
            return False
        if terminal.rewrites():
            return (bool(shown) and terminal.standing() == shown) or terminal.silence() >= PATIENCE
        again = _SELDOM if elapsed > _LONG else _AGAIN
        return terminal.silence() >= (PATIENCE if self.said is None else again)


class _Watcher:
    """Shows the innermost stage while there is one."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []
        self.lock = threading.Lock()
        self.ended: threading.Event | None = None
        self.shown = ""

    def enter(self, stage: Stage) -> None:
        with self.lock:
            stage.patient = any(not one.label for one in self.stages)
            self.stages.append(stage)
            if self.ended is None:
                terminal.begin()
                self.ended = threading.Event()
                threading.Thread(target=self._watch, args=(self.ended,), name="progress", daemon=True).start()

    def leave(self, stage: Stage, *, failed: bool = False) -> None:
        with self.lock:
            self.stages = [one for one in self.stages if one is not stage]
            last = not self.stages
            if last and self.ended is not None:
                self.ended.set()
                self.ended = None
        silent = stage.said is None and terminal.silence() >= PATIENCE  # it let no other thread run
        if (
            stage.label
            and not failed
            and terminal.attended()
            and time.monotonic() - stage.started >= PATIENCE
        ):
            if stage.ends and (silent or (stage.said is not None and not terminal.rewrites())):
                terminal.say(stage.over())
            elif stage.said is not None:
                terminal.note(stage.over())
        if last or stage.said is not None:
            terminal.clear()

    def _watch(self, ended: threading.Event) -> None:
        while not ended.wait(_INTERVAL):
            with terminal.lock:
                stage = self.stages[-1] if self.stages else None
                if stage is None or not stage.label or ended.is_set() or not stage.due(self.shown):
                    continue
                if terminal.rewrites():
                    self.shown = terminal.show(stage.line())
                else:
                    terminal.say(stage.line())
                stage.said = time.monotonic()


_watcher = _Watcher()


@contextlib.contextmanager
def stage(
    label: str, *, total: float | None = None, unit: str = "", seconds: float | None = None, ends: bool = True
) -> Generator[Stage, None, None]:
    """Say what is being done where the block works in silence; give ``done`` of the stage its progress.

    Args:
        label: what is being done, such as ``"reading"``.
        total: of what ``done`` counts; without it there is no share and no ETA.
        unit: what is counted, where the numbers are to be shown besides the share.
        seconds: how long it is expected to take, where ``total`` is not known.
        ends: whether the time that it took is worth a line where lines stay.
    """
    current = Stage(label if is_first_process() else "", total, unit, seconds, ends=ends)
    _watcher.enter(current)
    failed = True
    try:
        yield current
        failed = False
    finally:
        _watcher.leave(current, failed=failed)


def doing() -> str:
    """What the innermost stage does, as "learning a vocabulary"; empty outside of all that have a name."""
    names = [one.label for one in _watcher.stages[1:] if one.label]  # the first is the whole command
    return names[-1] if names else ""


def quiet() -> contextlib.AbstractContextManager[Stage]:
    """Within the block silence is right: a person is asked, or a line of its own shows how it goes."""
    return stage("")


def track(
    items: Iterable[T], label: str, *, total: float | None = None, size: float = 1.0, unit: str = ""
) -> Iterator[T]:
    """Pass ``items`` through, showing how far they are; see :func:`stage`.

    ``total`` is the sum of all steps and ``size`` the step of one item.
    """
    with stage(label, total=total, unit=unit) as current:
        for item in items:
            yield item
            current.done += size


def _loading() -> str:
    """A large library that is being loaded right now."""
    for name in _LIBRARIES:
        spec = getattr(sys.modules.get(name), "__spec__", None)
        if getattr(spec, "_initializing", False):  # how the import system marks it, since Python 3.3
            return name
    return ""
