"""Ctrl-C, and other ways of asking a program to stop: soon, in one line, with nothing half-written.

::

    Ctrl-C, SIGTERM, SIGHUP   ─ first ──  KeyboardInterrupt where the work stands, which cleans up
    (a closed terminal)       └ second ─  unfinished outputs are removed, and the process ends at once

Long work of other libraries, which answers no signal while it lasts, runs in a thread: :func:`interruptible`.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

from congling.core import progress
from congling.core.errors import Interrupted

T = TypeVar("T")
AGAIN = "To do it after all, run the same command again"
"""How to go on where nothing of the work is kept."""
STATUS = 130
"""Exit status of a program that was asked to stop."""
_POLL = 0.1  # seconds within which a signal is answered
_asked = threading.Event()
_abandoned: list[threading.Event] = []
"""Of work that was left behind: set when it ends after all."""
_doing: list[str] = []
"""What was being done when the first signal came."""


def stop_signals() -> list[int]:
    """Signals that ask for a stop: Ctrl-C, SIGTERM, and a closed terminal's, unless they are ignored.

    Whoever starts a program with ``nohup`` wants it to outlive the terminal. Windows has no SIGHUP; there a
    closed window is SIGBREAK.
    """
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    found = [getattr(signal, name) for name in names if hasattr(signal, name)]
    return [number for number in found if signal.getsignal(number) is not signal.SIG_IGN]


class OnStopSignals:
    """Within the block, these signals go to :meth:`handle`."""

    def __init__(self) -> None:
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            for number in stop_signals():
                self._previous[number] = signal.signal(number, self.handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Answer a signal."""
        raise NotImplementedError


class StopAtOnce(OnStopSignals):
    """Within the block the first of these signals raises KeyboardInterrupt; the second ends the process."""

    def __enter__(self) -> Self:
        _asked.clear()
        return super().__enter__()

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Raise, or end the process.

        Raises:
            KeyboardInterrupt: it is the first.
        """
        if _asked.is_set():
            end_at_once()
        _asked.set()
        _doing[:] = [progress.doing()]
        raise KeyboardInterrupt


def acknowledge() -> None:
    """Say that Ctrl-C was understood and the program goes on, as a chat does: the next is a first again."""
    _asked.clear()


def said() -> str:
    """What to say of a stop that nothing else told: what was being done, what is left, and how to go on."""
    doing = f" while {_doing[0]}" if _doing and _doing[0] else ""
    return f"stopped{doing}; nothing half-written is left. {AGAIN}"


def end_at_once() -> None:
    """Remove what is half-written and end the process, whatever it is doing."""
    from congling.core import output

    output.discard_unfinished()
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write("\nstopped at once\n")
        sys.stderr.flush()
    os._exit(STATUS)


def abandoned() -> bool:
    """Whether work of another library still runs in a thread; the interpreter cannot end around it."""
    return not all(ended.is_set() for ended in _abandoned)


def interruptible(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function that answers no signal until it is done, so that Ctrl-C is answered at once.

    It runs in a thread of its own; on Ctrl-C that is left behind, and dies with the process. For functions
    that let other threads run (most compiled ones do) and write nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        return function(*arguments)
    found: list[T] = []
    failed: list[BaseException] = []
    ended = threading.Event()

    def work() -> None:
        try:
            found.append(function(*arguments))
        except BaseException as error:  # raised again below
            failed.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_POLL)
    except KeyboardInterrupt:
        _abandoned.append(ended)  # the thread itself may call itself over: its join was interrupted
        raise
    if failed:
        raise failed[0]
    return found[0]


@contextlib.contextmanager
def stopping_said(doing: str, kept: str = "nothing half-written is left") -> Generator[None, None, None]:
    """Let Ctrl-C within the block say in one line what was being done, what is kept, and how to go on.

    Args:
        doing: continues "stopped while".
        kept: what is there afterwards.

    Raises:
        Interrupted: Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"stopped while {doing}; {kept}. To go on, run the same command again") from None
