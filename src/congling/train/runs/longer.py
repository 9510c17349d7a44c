"""Training a finished run longer, as one longer run would have gone; no torch.

::

    first    ╱▔▔▔▔▔▔▔▔▔▔▔▔▔╲                    the rate falls from BEFORE_DECAY on, to the end
            ╱              │╲
    longer  ╱▔▔▔▔▔▔▔▔▔▔▔▔▔▔│▔▔▔▔▔▔▔▔▔╲           begins there again, and falls later
                     BEFORE_DECAY

Up to that checkpoint nothing depends on where the end is, but for the length of the warm-up, which stays as
it was. What came after it belongs to the first end: its model is kept as ``endings/step-…``, all else goes.

``longer.json`` says what was asked for. It is written first, so that a process that is killed anywhere leaves
a run that the same command finishes.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from congling.core import artifact, machine
from congling.core.errors import UserError
from congling.core.rundir import RunDirectory
from congling.train.runs import retention
from congling.train.runs.deadline import SCHEDULE_FILE

LONGER_FILE = "longer.json"
ENDINGS = "endings"
"""Folder of the models of the earlier ends of a run."""


@dataclass(frozen=True)
class Longer:
    """One time that a run was made longer."""

    asked: str
    """As it was asked for: ``30m``, ``2000steps``."""
    begins: int
    """The step that is gone on from."""
    before: int
    """Steps of the run so far, as its settings say; where the clock decided, its last step may be another."""
    steps: int
    """Steps of the run now."""
    warmup_steps: int | None
    """Steps of the warm-up, where the share of the new steps is another number."""
    kept: str | None
    """The checkpoint of the first end that is kept."""
    applied: bool = False
    """Whether what belonged to the first end is out of the way."""
    done: bool = False
    """Whether the command that asked for it came to its end."""


def read(run: RunDirectory) -> list[Longer]:
    """How a run was made longer, in order; nothing for most runs.

    Raises:
        UserError: the record cannot be read.
    """
    file = run.path / LONGER_FILE
    if not file.is_file():
        return []
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, list):
            raise TypeError("no list")
        rows = [Longer(**row) for row in content]
        for row in rows:
            if not (0 < row.begins < row.steps and row.before > 0) or not isinstance(row.asked, str):
                raise ValueError("numbers that cannot be")
            if row.kept is not None and Path(row.kept).name != row.kept:
                raise ValueError("a name that leads elsewhere")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"the record of how this run was made longer cannot be read ({type(error).__name__})",
            where=file,
            hint="restore it, or begin anew with --fresh",
        ) from None
    return rows


def write(run: RunDirectory, rows: Sequence[Longer]) -> None:
    """Replace the record."""
    content = json.dumps([asdict(row) for row in rows], indent=1)
    artifact.write_text(run.path / LONGER_FILE, content + "\n")


def finish(run: RunDirectory) -> None:
    """Note that the command that made a run longer came to its end: asked again, it makes it longer again."""
    rows = read(run) if machine.is_first_process() else []
    if rows and not rows[-1].done:
        write(run, [*rows[:-1], replace(rows[-1], done=True)])


def lengthened(train: Mapping[str, Any], rows: Sequence[Longer]) -> dict[str, Any]:
    """A ``[train]`` table of an earlier end with the steps and the warm-up of the last."""
    found = dict(train)
    for row in rows:
        if found.get("max_steps") == row.before:
            found["max_steps"] = row.steps
            if row.warmup_steps is not None:
                found["schedule"] = {**found.get("schedule", {}), "warmup_steps": row.warmup_steps}
    return found


def source(run: RunDirectory, decay_start: int) -> Path | None:
    """The newest checkpoint at which the rate had not begun to fall: all later ones depend on the end."""
    named = run.pointed(retention.BEFORE_DECAY)
    return next((path for path in run.checkpoints() if path == named or step_of(path) <= decay_start), None)


def step_of(checkpoint: Path) -> int:
    """Updates done, by the name of a checkpoint."""
    return int(checkpoint.name.rpartition("-")[2])


def apply(run: RunDirectory, rows: Sequence[Longer]) -> None:
    """Put what belongs to the first end out of the way; again where a process was killed doing so.

    Its model goes to ``endings/``, its other checkpoints and its report are removed, and pointers name
    what the run goes on from. Logs are cut back when it does.
    """
    row = rows[-1]
    if row.applied:
        return
    if row.kept is not None and artifact.exists(run.path / "checkpoints" / row.kept):
        place = run.path / ENDINGS / row.kept
        place.parent.mkdir(exist_ok=True)
        if not artifact.exists(place):
            (run.path / "checkpoints" / row.kept).rename(place)
    for path in run.checkpoints():
        if step_of(path) > row.begins:
            retention.remove(path)
    beginning = run.checkpoint(row.begins)
    retention.point(run, step=row.begins, best=retention.best_at(beginning), decay_start=row.begins)
    (run.path / SCHEDULE_FILE).unlink(missing_ok=True)  # the end that the clock decided is the first
    if (run.path / "report").is_dir():
        shutil.rmtree(run.path / "report")
    write(run, [*rows[:-1], replace(row, applied=True)])
    run.event("made longer", asked=row.asked, step=row.begins, before=row.before, steps=row.steps)
