"""What a killed process leaves beside its outputs, and how the next one tidies up.

::

    .book.partial-4711-1a2b3c4d   was being written: removed
    .book.old-4711-1a2b3c4d       stepped aside for a new one: comes back where the new one never came
    .book.gone-4711-1a2b3c4d      was being removed: removed

The numbers are the process's, and a mark of the machine where it lives: what a process of another machine
writes on a shared disk is left to it for a day.
"""

import contextlib
import functools
import hashlib
import os
import platform
import re
import shutil
import time
from pathlib import Path
from typing import Literal

Sort = Literal["partial", "old", "gone"]
_NAME = re.compile(r"\.(?P<of>.+)\.(?P<sort>partial|old|gone)-(?P<process>\d+)(?:-(?P<machine>[0-9a-f]{8}))?")
_ELSEWHERE = 86_400.0  # seconds after which a process of another machine has surely ended
_SLACK = 10.0  # seconds by which a process's start is known


def beside(path: Path, sort: Sort) -> Path:
    """A name beside ``path`` that says what is there, and whose it is."""
    return path.with_name(f".{path.name}.{sort}-{os.getpid()}-{_machine()}")


def remove(path: Path) -> None:
    """Remove a file or a directory; one that is half removed has another name and is taken for nothing."""
    if not os.path.lexists(path):
        return
    gone = path if _NAME.fullmatch(path.name) else beside(path, "gone")
    if gone != path:
        path.rename(gone)
    _remove(gone)


def sweep(folder: Path, of: str | None = None) -> list[str]:
    """Tidy a folder up: what dead processes left is removed, or brought back where it is all there is.

    Args:
        folder: where to look; nothing happens where it cannot be read or changed.
        of: look only at what was left of this output.

    Returns:
        A sentence for each output that came back.
    """
    told: list[str] = []
    with contextlib.suppress(OSError):
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.name.startswith("."))
        for name in names:
            found = _NAME.fullmatch(name)
            if found is None or of not in (None, found["of"]):
                continue
            place, target = folder / name, folder / found["of"]
            with contextlib.suppress(OSError):
                if _alive(found, place.lstat().st_mtime):
                    continue
                if found["sort"] == "old" and not os.path.lexists(target):
                    place.rename(target)
                    told.append(f"{target} is back: a process that was to replace it ended before it did")
                else:
                    _remove(place)
    return told


def unneeded(folder: Path) -> list[Path]:
    """What :func:`sweep` would remove, and nothing of what it would bring back."""
    try:
        places = sorted(folder.iterdir())
    except OSError:  # it cannot be read
        return []
    found = ((place, _NAME.fullmatch(place.name)) for place in places)
    return [place for place, match in found if match is not None and _unneeded(place, match)]


def _unneeded(place: Path, match: re.Match[str]) -> bool:
    try:
        dead = not _alive(match, place.lstat().st_mtime)
    except OSError:  # gone in the meantime
        return False
    return dead and (match["sort"] != "old" or os.path.lexists(place.with_name(match["of"])))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@functools.cache
def _machine() -> str:
    return hashlib.sha256(platform.node().encode("utf-8", "surrogateescape")).hexdigest()[:8]


def _alive(found: re.Match[str], changed: float) -> bool:
    """Whether the process that a leftover is named after still lives, or may live on another machine."""
    if found["machine"] not in (None, _machine()):
        return time.time() - changed < _ELSEWHERE
    import psutil

    try:
        process = psutil.Process(int(found["process"]))
        started, ended = process.create_time(), process.status() == psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, OverflowError, ValueError):
        return False
    except psutil.Error:
        return True
    return not ended and started <= changed + _SLACK  # else the number is that of a later process
