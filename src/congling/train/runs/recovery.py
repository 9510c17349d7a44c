"""What follows a loss spike: a warning, and where that is asked for the last good checkpoint, or the end.

::

    checkpoint c ──── batches c … t ────▁▁▇▇ noticed at t
         └ weights, optimizer and averages of c again, logs cut back to it ── batches t+5, t+6 …

The batches in between are never seen again (Chowdhery et al. 2022, 5.1), nor are the next few: bad ones
seldom come alone. The schedule goes on from c. Where to go back to and what to skip follow from the steps
alone, and every checkpoint holds what was skipped before it: a run that is killed and gone on with ends with
the bytes of one that was not.
"""

from collections.abc import Callable, Mapping

from congling.core.artifact import Artifact
from congling.core.errors import UserError
from congling.core.rundir import RunDirectory
from congling.train.loop import Hook, SkippedBatches, Trainer
from congling.train.runs import retention
from congling.train.runs.metrics import Metrics
from congling.train.runs.resuming import resume
from congling.train.runs.spikes import Spike, SpikeDetector

SAFE = 4
"""Steps that a checkpoint had better be older than the first bad row; the update before it is what did it."""
BEYOND = 5
"""Batches that are passed over besides those that were learnt."""
REMEDY = (
    "lower train.optimizer.learning_rate or lengthen train.schedule.warmup_ratio, "
    "and look at the text of these steps"
)


class RolledBack(Exception):
    """Raised by a hook when the trainer stands at an earlier step again; training goes on from there."""


class SpikeWatch:
    """Sees every row that is logged, in the first process; what it finds waits for :func:`recovering`."""

    def __init__(self, run: RunDirectory, say: Callable[[str], None], *, text: bool, on_spike: str) -> None:
        self.run, self.say, self.text, self.on_spike = run, say, text, on_spike
        self.pending: Spike | None = None
        """A spike that something is to be done about."""
        self.start_over()

    def start_over(self) -> None:
        """Read what the log holds up to here, in silence: after a resume, and after going back."""
        self.pending, self.detector = None, SpikeDetector(text=self.text)
        self.detector.read(self.run.log("metrics").rows())

    def see(self, row: Mapping[str, object]) -> None:
        """Take note of one row as it is logged; a spike is an event and a line at once."""
        found = self.detector.see(row)
        if found is None or self.pending is not None:
            return
        self.run.event(
            "spike",
            step=found.step,
            onset=found.onset,
            code=found.code,
            what=found.what,
            usual=found.usual,
            value=found.value,
        )
        then = f"{REMEDY}; train.on_spike=rollback would go back by itself"
        self.say(
            f"step {found.step}: warning: {found.what} ({found.code})"
            + (f": {then}" if self.on_spike == "warn" else "")
        )
        if self.on_spike != "warn":
            self.pending = found


def recovering(
    run: RunDirectory,
    parents: Mapping[str, Artifact],
    on_spike: str,
    watch: SpikeWatch | None,
    metrics: Metrics | None,
) -> Hook:
    """Do what ``train.on_spike`` says about a spike; called in all processes after the same steps.

    Args:
        run: where checkpoints are.
        parents: as for :func:`congling.train.runs.resuming.resume`.
        on_spike: ``rollback`` or ``stop``.
        watch: of the first process; None in the others.
        metrics: likewise.

    The hook raises :class:`RolledBack`, or :class:`congling.core.errors.UserError` where the run is to end.
    """

    def act(trainer: Trainer) -> None:
        spike = None if watch is None else watch.pending
        if not trainer.backend.any_rank(spike is not None):
            return
        noticed = int(trainer.backend.all_reduce_sum(float(spike.step if spike is not None else 0)))
        place = -1 if spike is None or on_spike == "stop" else _good_step(run, spike)
        place = int(trainer.backend.all_reduce_sum(float(place if watch is not None else 0)))
        reason = "loss spike" if spike is None else f"at step {noticed} {spike.what}"
        tries = trainer.rollbacks
        if on_spike == "stop" or place < 0 or tries >= trainer.config.max_rollbacks:
            raise UserError(
                _why_no_more(on_spike, place, tries, reason), where=run.path, hint=_then(on_spike)
            )
        trainer.backend.barrier()  # nobody reads while the first process still removes
        skipped = _go_back(trainer, run, parents, place, noticed, write=watch is not None)
        if watch is not None and metrics is not None and spike is not None:
            run.event(
                "rolled back",
                step=noticed,
                to=place,
                skipped_batches=[skipped.first, skipped.count],
                attempt=trainer.rollbacks,
            )
            watch.say(
                f"step {noticed}: back to the checkpoint of step {place}; skipping "
                f"{skipped.count} batches ({trainer.rollbacks} of at most {trainer.config.max_rollbacks})"
            )
            watch.start_over()
            metrics.start_over()
        raise RolledBack

    return act


def _good_step(run: RunDirectory, spike: Spike) -> int:
    """Step of the newest checkpoint from well before the spike, or just before it; -1 where there is none."""
    steps = [int(path.name.removeprefix("step-")) for path in run.checkpoints()]
    for margin in (SAFE, 1):
        if found := [step for step in steps if step < spike.onset - margin]:
            return max(found)
    return -1


def _go_back(
    trainer: Trainer,
    run: RunDirectory,
    parents: Mapping[str, Artifact],
    place: int,
    noticed: int,
    *,
    write: bool,
) -> SkippedBatches:
    """Restore the checkpoint of step ``place`` and pass over the batches up to step ``noticed``."""
    seen, tries = trainer.batch_of(noticed) + BEYOND, trainer.rollbacks + 1
    if write:
        for path in run.checkpoints():
            if path.name > run.checkpoint(place).name:
                retention.remove(path)
    trainer.backend.barrier()
    resume(trainer, run, parents, write=write)
    trainer.backend.barrier()
    first, period = trainer.batch_of(trainer.step), int(getattr(trainer.batches, "period", 1))
    count = -(-(seen - first) // period) * period
    skipped = SkippedBatches(trainer.step, first, count)
    trainer.skipped, trainer.rollbacks = (*trainer.skipped, skipped), tries
    return skipped


def _why_no_more(on_spike: str, place: int, tries: int, reason: str) -> str:
    if on_spike == "stop":
        return f"stopped: {reason}"
    if place < 0:
        return f"{reason}, and there is no checkpoint from before it"
    return f"{reason}, for the {tries + 1}th time although other batches were taken each time"


def _then(on_spike: str) -> str:
    go_on = "; or go on from the last good checkpoint with train.on_spike=rollback"
    return f"{REMEDY}, in a new run" + (go_on if on_spike == "stop" else "")
