"""Which checkpoints of a run stay, and which of them its pointers name; no torch.

::

    step-00000100   step-00000400   step-00000450   step-00000800   step-00000850   step-00000900
    (removed)       best at 450     BEFORE_DECAY    BEST            one of newest   LATEST

Both follow from the checkpoints themselves. A process may be killed between writing a checkpoint and naming
it: whoever goes on names it then.
"""

import json
from pathlib import Path

from congling.core import artifact, leftovers, pointers
from congling.core.disk import unwritable
from congling.core.numbers import whole
from congling.core.output import flush_folders, warn
from congling.core.rundir import RunDirectory

LATEST, BEST, BEFORE_DECAY = "LATEST", "BEST", "BEFORE_DECAY"
POINTERS = (LATEST, BEST, BEFORE_DECAY)


def point(run: RunDirectory, *, step: int, best: int | None, decay_start: int | None) -> None:
    """Let the pointers name the checkpoints they are for, as far as those are there.

    Args:
        run: the run.
        step: of the newest checkpoint.
        best: that of the best one; None where there is none.
        decay_start: after which the rate falls; None where that is not known.
    """
    for name, at in {LATEST: step, BEST: best, BEFORE_DECAY: decay_start}.items():
        target = run.pointed(name) if at is None and name == BEFORE_DECAY else None
        if at is not None and at <= step and artifact.exists(run.checkpoint(at)):
            target = run.checkpoint(at)
        if target is None:
            run.forget(name)
        elif run.pointed(name) != target:
            run.point(name, target)


def prune(run: RunDirectory, *, keep: int, best: int | None) -> None:
    """Remove all checkpoints but the ``keep`` newest, the best, and what a longer run begins from."""
    stays = {run.pointed(name) for name in POINTERS}
    if best is not None:
        stays.add(run.checkpoint(best))
    before_decay = run.pointed(BEFORE_DECAY)
    if before_decay is not None and (then := best_at(before_decay)) is not None:
        stays.add(run.checkpoint(then))  # that of a longer run, until it finds a better one
    for path in (old := [path for path in run.checkpoints()[keep:] if path not in stays]):
        if path == old[0]:  # what stays is on the disk, by name, before anything goes
            flush_folders(run.path / pointers.CHECKPOINTS, run.path)
        remove(path)


def clear_leftovers(run: RunDirectory) -> None:
    """Remove what a killed process was writing or removing, and bring back what it had moved aside."""
    for folder in (run.path, run.path / pointers.CHECKPOINTS):
        for line in leftovers.sweep(folder):
            warn(line)


def remove(path: Path) -> None:
    """Remove a checkpoint; one that cannot be removed takes room, and nothing else."""
    try:
        leftovers.remove(path)
    except OSError as error:
        warn(f"an old checkpoint stays: {unwritable(path, error)}")


def state_of(checkpoint: Path) -> dict[str, object]:
    """What a checkpoint's ``state.json`` says; empty where it cannot be read."""
    try:
        content = json.loads((checkpoint / "state" / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def best_at(checkpoint: Path) -> int | None:
    """The step that was the best when a checkpoint was written."""
    best = state_of(checkpoint).get("best")
    step = best.get("step") if isinstance(best, dict) else None
    return whole(step)
