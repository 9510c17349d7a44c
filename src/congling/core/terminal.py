"""What is said on the terminal: one line that is rewritten, lines that stay, and everything kept in a log.

::

    print, rich, warnings ─ Heard ─┬─ the terminal (what is rewritten goes before anything is said)
                                   ├─ when something was last said: whoever works in silence shows it then
                                   └─ log.txt of the run that the command writes into

Only the program listens (:func:`heard`); in a library's use nothing is wrapped and no log is kept.
"""

import contextlib
import os
import re
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

from congling.core.run_log import RunLog, command_line
from congling.core.text import printable

_REMEMBERED = 2_000
"""Lines kept until it is known into which run a command writes."""
_MARKS = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f]")
"""Colours, movements of the cursor and other control characters: no part of what is said."""

lock = threading.RLock()
"""Held by whoever writes."""


def _new_lock() -> None:
    global lock
    lock = threading.RLock()


if hasattr(os, "register_at_fork"):  # a child must not wait for a thread that it does not have
    os.register_at_fork(after_in_child=_new_lock)


class _State:
    """What stands on the terminal now, and what was said."""

    def __init__(self) -> None:
        self.said = time.monotonic()
        self.standing = ""
        """The line that is rewritten, as it stands there."""
        self.midline = False
        """Whether the last line was left open, as where a text is written word by word."""
        self.lines: deque[tuple[float, str]] = deque(maxlen=_REMEMBERED)
        self.logs: dict[Path, RunLog] = {}
        self.listening = False
        self.began = time.time()


_state = _State()


class Heard:
    """A stream that passes on everything and lets the log and the clock know."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self._line = ""

    def write(self, text: str) -> int:
        """Write, after taking away the line that is rewritten."""
        with lock:
            terminal = self.stream.isatty()
            if terminal:
                clear()
            count = self.stream.write(text)
            _state.said = time.monotonic()
            if terminal and text:
                _state.midline = not text.endswith("\n")
            self._hear(text)
        return count

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def _hear(self, text: str) -> None:
        *whole, self._line = (self._line + text).split("\n")
        _keep(line.rstrip("\r").rpartition("\r")[2] for line in whole)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def heard() -> Generator[None, None, None]:
    """Listen to both streams within the block."""
    global _state
    before, _state = _state, _State()
    _state.listening = True
    streams = sys.stdout, sys.stderr
    ours = [stream if stream is None else Heard(stream) for stream in streams]
    sys.stdout, sys.stderr = ours
    try:
        yield
    finally:
        clear()
        sys.stdout, sys.stderr = (  # another one was put there on purpose, for a pipe that broke
            then if now is own else now
            for now, own, then in zip((sys.stdout, sys.stderr), ours, streams, strict=True)
        )
        _state = before


def keep_log(folder: Path) -> None:
    """Keep what this command says, from its beginning, in the log of the run in ``folder``."""
    with lock:
        if not _state.listening or folder.resolve() in _state.logs:
            return
        log = RunLog(folder / RunLog.NAME)
        log.add([(_state.began, command_line(sys.argv)), *_state.lines])
        _state.logs[folder.resolve()] = log


def note(text: str) -> None:
    """Add to the log alone."""
    with lock:
        _keep(text.split("\n"))


def rewrites() -> bool:
    """Whether standard error is a terminal whose lines can be rewritten."""
    if sys.stderr is None or not sys.stderr.isatty():
        return False
    kind = os.environ.get("TERM", "")
    return kind != "dumb" and (os.name != "nt" or bool(kind) or "WT_SESSION" in os.environ)


def attended() -> bool:
    """Whether someone looks: the program runs, or there is a terminal (``FORCE_COLOR`` says so)."""
    return _state.listening or rewrites() or bool(os.environ.get("FORCE_COLOR"))


def begin() -> None:
    """Count silence from now."""
    _state.said = time.monotonic()


def silence() -> float:
    """Seconds since something was said; 0 where a line was left open, and nothing may be said."""
    return 0.0 if _state.midline else time.monotonic() - _state.said


def standing() -> str:
    """The line that is rewritten, as it stands there; empty where there is none."""
    return _state.standing


def show(text: str) -> str:
    """Show a line that the next one takes the place of; gives it as it stands there, cut to the window."""
    from rich.cells import cell_len, set_cell_size

    with lock:
        text = printable(text)
        width = shutil.get_terminal_size().columns - 1
        text = text if cell_len(text) <= width else set_cell_size(text, width)
        if text != _state.standing:
            _write(f"\r\x1b[K{text}")
            _state.standing = text
        _state.said = time.monotonic()
    return text


def clear() -> None:
    """Take away the line that is rewritten."""
    with lock:
        if _state.standing:
            _state.standing = ""
            _write("\r\x1b[K")


def say(text: str) -> None:
    """Write a line that stays, to standard error."""
    with lock, contextlib.suppress(OSError, ValueError):  # a terminal that is gone stops nothing
        clear()
        print(printable(text), file=sys.stderr, flush=True)
        _state.said = time.monotonic()


def put(text: str = "", *, end: str = "\n") -> None:
    """Write text, which may come from anywhere, to standard output; at once, so that a stream shows while it
    is made.
    """
    print(printable(text), end=end, flush=True)


def _write(text: str) -> None:
    stream = sys.stderr.stream if isinstance(sys.stderr, Heard) else sys.stderr
    with contextlib.suppress(OSError, ValueError):  # closed: there is nobody to show it to
        stream.write(text)
        stream.flush()


def _keep(lines: Iterable[str]) -> None:
    if not _state.listening:
        return
    now = time.time()
    new = [(now, text) for line in lines if (text := _MARKS.sub("", line).rstrip())]
    _state.lines.extend(new)
    for log in _state.logs.values():
        log.add(new)
