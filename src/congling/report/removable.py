"""What can be removed of a folder of runs: it is looked for, and removed only where that is asked.

::

    leftovers     of killed processes: .book.partial-4711, .book.gone-4711, checkpoints set aside as damaged
    checkpoints   of runs that no process is training, beyond those that something points at (BEST, LATEST, …)
    temporary     folders of congling among the system's temporary files, a day old and more
    caches        of compiled code, which other programs share: only where they are asked for

Nothing that is the only copy of an output is listed (``.book.old-4711`` while ``book`` is missing): the next
command of that output brings it back.
"""

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from congling.core.errors import UserError
from congling.report.listing import is_running, place_of, run_directories, size_of
from congling.train.rundir import RunDirectory

Kind = Literal["leftover", "checkpoint", "temporary", "cache"]
_LEFTOVER = re.compile(r"\.(?P<of>.+)\.(?P<sort>partial|old|gone)-(?P<process>\d+)(?:-[0-9a-f]{8})?")
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


def remove(found: Iterable[Removable]) -> list[Path]:
    """Remove what was found; gives what could not be."""
    failed = []
    for one in found:
        try:
            if one.path.is_dir() and not one.path.is_symlink():
                aside = one.path.with_name(f".{one.path.name.lstrip('.')}.gone-{os.getpid()}")
                one.path.rename(aside)  # half of a checkpoint must not be taken for one
                shutil.rmtree(aside)
            else:
                one.path.unlink(missing_ok=True)
        except OSError:
            failed.append(one.path)
    return failed


Found = tuple[Path, Kind, str]


def _leftovers(folder: Path) -> Iterator[Found]:
    for place, inner, files in os.walk(folder):
        names = sorted([*inner, *files])
        depth = len(Path(place).relative_to(folder).parts)
        for name in names:
            path, match = Path(place, name), _LEFTOVER.fullmatch(name)
            if match and _dead(path, int(match["process"])):
                if match["sort"] != "old" or os.path.lexists(Path(place, match["of"])):
                    yield path, "leftover", f"left by process {match['process']}, which has ended"
            elif name.startswith("step-") and name.endswith(".damaged") and path.is_dir():
                yield path, "leftover", "a damaged checkpoint, set aside"
        inner[:] = [name for name in inner if name[:1] != "." and not name.endswith(".damaged")]
        inner[:] = inner if depth < _DEEPEST else []


def _dead(path: Path, process: int) -> bool:
    """Whether the process that a leftover is named after has ended; one of another machine may live a day."""
    import psutil

    try:
        changed = path.lstat().st_mtime
    except OSError:  # gone in the meantime
        return False
    elsewhere = not path.name.endswith(f"-{process}")  # the name of a machine stands behind
    try:
        return psutil.Process(process).create_time() > changed + 10  # the number is that of a later process
    except (psutil.NoSuchProcess, OverflowError, ValueError):
        return not elsewhere or time.time() - changed > _DAY
    except psutil.Error:
        return False


def _checkpoints(folder: Path) -> Iterator[Found]:
    for path in run_directories(folder):
        if is_running(path) or is_running(place_of(path)):
            continue
        run = RunDirectory(path)
        needed = _pointed(path)
        if not needed:  # nothing says which of them matters
            continue
        for checkpoint in run.checkpoints():
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
