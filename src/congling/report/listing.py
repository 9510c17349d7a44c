"""The runs in a folder, a line each: what made them, how good they are, how long it took, and what they fill.

Read from what the runs recorded; no torch. A run that cannot be read is listed as damaged.
"""

import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from congling.core.errors import UserError
from congling.report.record import mapping, numeric
from congling.report.sides import RunSummary, summaries

State = Literal["running", "finished", "stopped", "damaged"]
_DEEPEST = 8
"""Folders within folders that are looked into."""
_LOOKED_PAST = {"checkpoints", "node_modules", "site-packages", "__pycache__"}
_LONGEST_LOCK = 4096  # bytes of a lock that are read


@dataclass(frozen=True)
class Listed:
    """A run."""

    name: str
    """Its path from the folder that was listed; of ``congling train`` that of its --out."""
    path: Path
    """The run directory."""
    state: State
    method: str | None = None
    """The verb that made it, and whether it is an adapter."""
    parameters: int | None = None
    loss: float | None = None
    """Held-out loss of the best checkpoint."""
    unit: str | None = None
    step: int | None = None
    """Of the best checkpoint."""
    steps: int | None = None
    """Of the whole run."""
    seconds: float | None = None
    bytes: int = 0
    """On the disk, with everything that lies beside the run in its folder."""
    changed: float | None = None
    """When the run last wrote, in seconds since 1970."""
    problem: str | None = None
    """Why it cannot be read."""


def listed(folder: Path | str) -> list[Listed]:
    """All runs in a folder, by name.

    Raises:
        UserError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError("no such folder", value=str(folder), hint="name the folder your runs are in")
    return sorted((_line(folder, path) for path in run_directories(folder)), key=lambda one: one.name)


def run_directories(folder: Path) -> Iterator[Path]:
    """Run directories in a folder, and itself if it is one; links are not followed."""
    for place, inner, files in os.walk(folder):
        depth = len(Path(place).relative_to(folder).parts)
        keep = sorted(name for name in inner if name[:1] != "." and name not in _LOOKED_PAST)
        inner[:] = keep if depth < _DEEPEST else []
        if "config.toml" in files and (Path(place, "checkpoints").is_dir() or "metrics.jsonl" in files):
            yield Path(place)


def is_running(path: Path) -> bool:
    """Whether a process of this machine holds the lock of a directory."""
    import psutil

    try:
        said = json.loads((path / ".lock").read_bytes()[:_LONGEST_LOCK])
        pid, host = int(said["pid"]), str(said.get("host", platform.node()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
    return host == platform.node() and pid > 0 and psutil.pid_exists(pid)


def place_of(path: Path) -> Path:
    """What a person calls the run: of ``congling train`` its --out, else the run directory."""
    whole = path.name == "run" and (path.parent / "shards").is_dir()
    return path.parent if whole else path


def size_of(path: Path) -> int:
    """Bytes of a file or of everything in a folder; links count for nothing."""
    if path.is_symlink():
        return 0
    if not path.is_dir():
        return _size(path)
    return sum(_size(Path(place, name)) for place, _, files in os.walk(path) for name in files)


def _size(file: Path) -> int:
    try:
        return 0 if file.is_symlink() else file.stat().st_size
    except OSError:  # gone in the meantime
        return 0


def _line(folder: Path, path: Path) -> Listed:
    place = place_of(path)
    name = str(place.relative_to(folder)) if place.is_relative_to(folder) else place.name
    name, size = folder.resolve().name if name == "." else name, size_of(place)
    running = is_running(path) or is_running(place)
    try:
        (side,) = summaries([path])
    except (UserError, OSError) as error:
        what = error.what if isinstance(error, UserError) else str(error.strerror)
        return Listed(name, path, "running" if running else "damaged", bytes=size, problem=what)
    loss, unit = _loss(side)
    steps = numeric(mapping(side.run.config.get("train")).get("max_steps"))
    return Listed(
        name,
        path,
        "running" if running else state_of(side.run.events),
        side.made_by,
        side.parameters,
        loss,
        unit,
        side.step,
        None if steps is None else int(steps),
        side.seconds,
        size,
        _changed(path),
    )


def state_of(events: Iterable[Mapping[str, Any]]) -> State:
    """By the last event: a run that was gone on with after its end is not finished before it says so."""
    said = [row.get("event") for row in events if row.get("event") in ("started", "resumed", "finished")]
    return "finished" if said and said[-1] == "finished" else "stopped"


def _loss(side: RunSummary) -> tuple[float | None, str | None]:
    """The most comparable held-out number there is, and its unit."""
    if side.bits is not None:
        return side.bits, "bits/char"
    if side.nats is not None:
        return side.nats, "nats/token"
    scores: Mapping[str, Any] = side.scores
    for name in ("held-out loss", "held-out reward", "held-out accuracy"):
        if name in scores:
            return scores[name].value, name.removeprefix("held-out ")
    return None, None


def _changed(path: Path) -> float | None:
    files = [path / name for name in ("metrics.jsonl", "config.toml")]
    return max((file.stat().st_mtime for file in files if file.is_file()), default=None)
