"""Which checkpoint of a run is meant: what its pointers say, and what its checkpoints themselves know.

::

    run/
    ├── BEST  LATEST                                     the name of a directory below
    └── checkpoints/step-00000400/state/state.json      {"best": {"step": 200, …}, …}

A pointer is a file of its own, so it can be lost or damaged alone. The newest checkpoint knows which step was
the best, under its checksum; where the two disagree the checkpoint is believed, and it is said.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from congling.core import artifact, leftovers
from congling.core.artifact import Artifact
from congling.core.disk import reading_from
from congling.core.errors import UserError
from congling.core.numbers import whole
from congling.core.output import warn

POINTERS = ("BEST", "LATEST")
CHECKPOINTS = "checkpoints"
_STATE = "state/state.json"
_NAME = re.compile(r"step-\d{8}", re.ASCII)


def checkpoints(run: Path) -> list[Path]:
    """All directories of checkpoints, newest first: also those whose manifest is gone."""
    with reading_from(run):
        if not (run / CHECKPOINTS).is_dir():
            return []
        found = (path for path in (run / CHECKPOINTS).iterdir() if _NAME.fullmatch(path.name))
        return sorted((path for path in found if path.is_dir()), reverse=True)


def finished(run: Path) -> list[Path]:
    """Finished checkpoints of a run, newest first."""
    return [path for path in checkpoints(run) if artifact.exists(path)]


def pointed(run: Path) -> bool:
    """Whether a directory has pointers: whether it is that of a run."""
    with reading_from(run):
        return any((run / name).is_file() for name in POINTERS)


def named(run: Path, pointer: str) -> Path | None:
    """The checkpoint that a pointer names, if it is there.

    Only the plain name of one counts: a pointer that came from elsewhere must not lead outside its run.
    """
    with reading_from(run):
        if not (run / pointer).is_file():
            return None
        with (run / pointer).open("rb") as stream:
            said = stream.read(300).decode("utf-8", "replace").strip()
        target = run / CHECKPOINTS / said
        return target if _NAME.fullmatch(said) and artifact.exists(target) else None


def handed_on(run: Path, say: Callable[[str], None] = warn) -> Path | None:
    """The checkpoint that a run gives away: its best one, else its latest; None where it has none.

    ``say`` is told whatever a pointer that is lost or damaged leaves in doubt.
    """
    for folder in (run, run / CHECKPOINTS):
        for line in leftovers.sweep(folder):
            say(line)
    best, latest = (named(run, pointer) for pointer in POINTERS)
    newest = next(iter(finished(run)), None)
    known = _best_known(newest)
    if known is not None and known != best:
        said = f"names {best.name}" if best is not None else "names no checkpoint that is there"
        said = said if (run / "BEST").exists() else "is missing"
        say(f"{run}: BEST {said}; by the newest checkpoint the best is {known.name}, which is used")
        return known
    if best is not None:
        return best
    if (run / "BEST").exists():
        found = latest or newest
        instead = f"the latest, {found.name}, is used" if found is not None else "and there is no other"
        say(f"{run}: BEST names no checkpoint that is there; {instead}")
    if newest is not None and latest is None:
        said = "names no checkpoint that is there" if (run / "LATEST").exists() else "is missing"
        say(f"{run}: LATEST {said}; the newest checkpoint is {newest.name}, which is used")
    elif newest is not None and latest is not None and newest.name > latest.name:
        say(f"{run}: LATEST names {latest.name}, but there is a newer checkpoint, {newest.name}")
    return latest or newest


def _best_known(newest: Path | None) -> Path | None:
    """The best checkpoint by what the newest one remembers; None where it remembers none that is there."""
    if newest is None:
        return None
    try:
        found = artifact.opened(newest, "checkpoint")
        if _STATE not in found.files:
            return None
        step = _best_step(found)
    except (UserError, OSError, ValueError, RecursionError):
        return None  # damaged: whoever loads it says so
    place = None if step is None else newest.with_name(f"step-{step:08d}")
    return place if place is not None and artifact.exists(place) else None


def _best_step(checkpoint: Artifact) -> int | None:
    state: Any = json.loads(checkpoint.checked(_STATE).read_bytes())
    best = cast(dict[str, Any], state).get("best") if isinstance(state, dict) else None
    return whole(cast(dict[str, Any], best).get("step")) if isinstance(best, dict) else None


def leads_to_checkpoint(path: Path | str) -> bool:
    """Whether ``path`` is a checkpoint, or a run that has one; texts and recipes do not."""
    path = Path(path)
    if artifact.exists(path):
        return (path / "model.json").is_file()
    return any(pointed(run) or checkpoints(run) for run in (path, path / "run"))
