"""What a person has typed before, kept for the arrow keys in a file that is theirs alone.

One JSON string a line, the newest last; the directory is the one where programs keep such things, and a file
that cannot be read or written costs nothing but the memory.
"""

import contextlib
import json
import os
import sys
from pathlib import Path

MOST = 1000
"""Entries that are read back, and kept when the file has grown to twice as many."""

_LARGEST = 2**26  # bytes; such a file is another's


def state_directory() -> Path:
    """Where this program keeps what it remembers of a person: ``$XDG_STATE_HOME``, or the system's place."""
    if given := os.environ.get("XDG_STATE_HOME"):
        return Path(given) / "congling"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "congling"
    return Path.home() / ".local" / "state" / "congling"


def chat_history() -> "History":
    """What was typed in chats; none where a person has no home."""
    try:
        return History(state_directory() / "chat-history.jsonl")
    except RuntimeError:  # no home directory
        return History(None)


class History:
    """Entries of a file, readable and writable by its owner alone; without a file they last for one chat."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.entries: list[str] = []
        """The oldest first."""
        if path is not None:
            with contextlib.suppress(OSError, ValueError):
                self.entries = _read(path)

    def add(self, entry: str) -> None:
        """Remember what was typed; the same twice in a row is one entry."""
        if not entry.strip() or self.entries[-1:] == [entry]:
            return
        self.entries.append(entry)
        if self.path is not None:
            with contextlib.suppress(OSError):
                _append(self.path, entry)


def _read(path: Path) -> list[str]:
    """The newest entries; a file that has grown long is cut.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no text.
    """
    if not path.is_file() or path.stat().st_size > _LARGEST:
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [entry for line in lines[-MOST:] if isinstance(entry := _entry(line), str)]
    if len(lines) > 2 * MOST:
        short = path.with_name(f"{path.name}.{os.getpid()}")
        for entry in kept:
            _append(short, entry)
        short.replace(path)
    return kept


def _entry(line: str) -> object:
    try:
        return json.loads(line)
    except ValueError:  # a line that was cut off: whoever wrote it was killed
        return None


def _append(path: Path, entry: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Not through a link: a file of another's choice must not grow by what is typed here.
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  a descriptor, not a path
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, 0o600)
        file.write(json.dumps(entry) + "\n")
