"""What can be removed of a folder of runs: it is looked for, and removed only where that is asked.

::

    leftovers     of killed processes: .book.partial-4711, .book.gone-4711, checkpoints set aside as damaged
    checkpoints   of runs that no process trains, beyond those that something points at (BEST, LATEST, …);
                  of a run that has not ended, beyond the newest two as well
    temporary     folders of congling among the system's temporary files, a day old and more
    caches        of compiled code, which other programs share: only where they are asked for

Nothing that is the only copy of an output is listed (``.book.old-4711`` while ``book`` is missing): the next
command of that output brings it back.
"""

import contextlib
import os
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from congling.core import leftovers
from congling.core.errors import UserError
from congling.core.lock import only_writer
from congling.core.rundir import RunDirectory
from congling.report.listing import is_running, place_of, run_directories, size_of, state_of

Kind = Literal["leftover", "checkpoint", "temporary", "cache"]
_DAY = 86_400.0
_DEEPEST = 10
"""Folders within folders that are looked into."""
_LONGEST_POINTER = 200  # bytes


@dataclass(frozen=True)
class Removable:
    """A file or folder that nothing needs."""

    path: Path
    kind: Kind
    bytes: int
    why: str


def removable(folder: Path | str, *, caches: bool = False) -> list[Removable]:
    """Everything in a folder that nothing needs, and what is left among temporary files.

    Args:
        folder: where runs and outputs are; links are not followed.
        caches: also caches of compiled code, which other programs share.

    Raises:
        UserError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError("no such folder", value=str(folder), hint="name the folder your runs are in")
    found = [*_leftovers(folder), *_checkpoints(folder), *_temporary(), *(_caches() if caches else ())]
    return [Removable(path, kind, size_of(path), why) for path, kind, why in found]


def remove(found: Sequence[Removable]) -> list[Path]:
    """Remove what was found; gives what could not be."""
    with contextlib.ExitStack() as stack:
        busy = {run for run in {_run_of(one) for one in found} - {None} if not _ours(run, stack)}
        for one in found:
            if _run_of(one) not in busy:
                with contextlib.suppress(OSError):
                    leftovers.remove(one.path)
    return [one.path for one in found if os.path.lexists(one.path)]


def _run_of(one: Removable) -> Path | None:
    """The run that a checkpoint belongs to."""
    return one.path.parent.parent if one.kind == "checkpoint" else None


def _ours(run: Path | None, stack: contextlib.ExitStack) -> bool:
    """Whether no process works in a run, and none can until the stack is left."""
    try:
        if run is not None:
            stack.enter_context(only_writer(run))
    except UserError:
        return False
    return True


Found = tuple[Path, Kind, str]


def _leftovers(folder: Path) -> Iterator[Found]:
    for place, inner, _ in os.walk(folder):
        for path in leftovers.unneeded(Path(place)):
            yield path, "leftover", "left by a process that has ended"
        damaged = sorted(name for name in inner if name.startswith("step-") and name.endswith(".damaged"))
        for name in damaged:
            yield Path(place, name), "leftover", "a damaged checkpoint, set aside"
        depth = len(Path(place).relative_to(folder).parts)
        inner[:] = [name for name in inner if name[:1] != "." and name not in damaged and depth < _DEEPEST]


def _checkpoints(folder: Path) -> Iterator[Found]:
    for path in run_directories(folder):
        if is_running(path) or is_running(place_of(path)):
            continue
        run, needed = RunDirectory(path), _pointed(path)
        if not needed:  # nothing says which of them matters
            continue
        # A run that is to be gone on with falls back on the one before the newest, if that is damaged.
        finished = state_of(run.log("events").rows()) == "finished"
        for checkpoint in run.checkpoints()[1 if finished else 2 :]:
            if checkpoint.name not in needed:
                yield checkpoint, "checkpoint", f"not one of {', '.join(sorted(set(needed.values())))}"


def _pointed(path: Path) -> dict[str, str]:
    """Checkpoints that a file of the run names, such as ``BEST``, with the name of that file."""
    found = {}
    for file in sorted(path.iterdir()):
        if file.name.isupper() and file.is_file() and file.stat().st_size <= _LONGEST_POINTER:
            found[file.read_text(encoding="utf-8", errors="replace").strip()] = file.name
    return {name: pointer for name, pointer in found.items() if (path / "checkpoints" / name).is_dir()}


def _temporary() -> Iterator[Found]:
    for path in sorted(Path(tempfile.gettempdir()).glob("congling-*")):
        try:
            ours = not hasattr(os, "getuid") or path.lstat().st_uid == os.getuid()
            old = time.time() - path.lstat().st_mtime > _DAY
        except OSError:
            continue
        if ours and old and path.is_dir() and not path.is_symlink():
            yield path, "temporary", "left among temporary files, more than a day ago"


def _caches() -> Iterator[Found]:
    """Where torch keeps compiled code, by its own rules."""
    user = re.sub(r'[\\/:*?"<>|]', "_", os.environ.get("USER") or os.environ.get("USERNAME") or "")
    places = [
        os.environ.get("TORCHINDUCTOR_CACHE_DIR")
        or str(Path(tempfile.gettempdir(), f"torchinductor_{user}")),
        os.environ.get("TRITON_CACHE_DIR") or str(Path.home() / ".triton" / "cache"),
    ]
    for place in map(Path, places):
        if place.is_dir() and not place.is_symlink():
            yield place, "cache", "compiled code, made again when it is needed; other programs use it too"
