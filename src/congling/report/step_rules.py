"""What single steps of a run tell: spikes, gradients that are not finite, time against the plan."""

import math
import statistics
from collections.abc import Iterator

from congling.core.diagnosis import Diagnosis
from congling.core.units import plural
from congling.report.advice import ANEW
from congling.report.budget import cause_of, pace_of, show_step
from congling.report.record import RunRecord
from congling.train.runs.spikes import SpikeDetector

SLOW = 1.5
"""How many times as long as planned steps may take without a word."""
GO_BACK = (
    "lower train.optimizer.learning_rate (a half to a tenth) or lengthen train.schedule.warmup_ratio, "
    "and train anew; "
    "train.on_spike=rollback goes back to the last good checkpoint by itself"
)
"""What to do about a run that diverged."""


def loss_spikes(run: RunRecord) -> Iterator[Diagnosis]:
    """Losses that left their course: those still in the log, and those the run went back from."""
    text = any(math.isfinite(row.bits_per_character) for row in run.steps)
    detector = SpikeDetector(text=text)
    found = detector.read(run.metrics)
    if found and not detector.recovered:
        yield Diagnosis(
            "error",
            "diverged",
            found[-1].what,
            "an update threw the weights off, which more training mends slowly or never: the rate is too "
            "high for them, or the text of these steps is of another kind",
            GO_BACK,
        )
    elif found:
        more = "" if len(found) == 1 else f" ({len(found)} times in all)"
        yield Diagnosis(
            "warning",
            "loss-spike",
            f"{found[-1].what}, and came back{more}",
            "the rate is close to what the weights bear, or some batches hold text of another kind",
            "lower the rate a little, and look at the text around these steps",
        )
    backs = [row for row in run.events if row.get("event") == "rolled back"]
    steps = [f"{row.get('step')} to {row.get('to')}" for row in backs]
    if steps:
        yield Diagnosis(
            "warning",
            "rolled-back",
            f"the run went back {len(steps)} {plural(len(steps), 'time')} after a spike of its loss: from "
            f"step {', '.join(steps[:5])}",
            "the batches in between were passed over, and are never trained on",
            "lower the rate a little next time, and look at the text around these steps",
        )


def not_finite(run: RunRecord) -> Iterator[Diagnosis]:
    """Steps without a finite gradient."""
    skipped = sum(row.skipped for row in run.steps)
    if skipped:
        share = skipped / len(run.steps)
        yield Diagnosis(
            "error" if share > 0.01 else "warning",
            "skipped-steps",
            f"{skipped} of {len(run.steps):,} steps had no finite gradient and were skipped",
            "the rate is too high for the weights or the precision, or a batch is degenerate",
            f"{ANEW}: lower the rate by half, lengthen the warm-up, and on bf16 compare with fp32",
        )


def spikes(run: RunRecord) -> Iterator[Diagnosis]:
    """Gradient norms far above the usual after the warm-up."""
    norms = [
        row.gradient_norm
        for row in run.steps[len(run.steps) // 10 :]
        if row.gradient_norm == row.gradient_norm
    ]
    if len(norms) >= 20 and max(norms) > 20 * statistics.median(norms) > 0:
        yield Diagnosis(
            "warning",
            "gradient-spikes",
            f"the gradient norm reached {max(norms):.2g}, {max(norms) / statistics.median(norms):.0f} "
            "times its median",
            "single batches throw the weights about; clipping limits the damage but each spike costs "
            "some progress",
            f"look at the text around that step for garbage, or {ANEW} lower the rate a little",
        )


def slower_than_planned(run: RunRecord) -> Iterator[Diagnosis]:
    """Time against the plan's estimate: that of the clock, in which stalls count."""
    pace = pace_of(run)
    if pace is not None and pace.slowness > SLOW:
        yield Diagnosis(
            "note",
            "slower-than-planned",
            f"a step took {show_step(pace.taken)}, planned were {show_step(pace.planned)}",
            cause_of(pace),
            "a run with a budget ends in time all the same, with fewer steps; for more of them, train while "
            "the machine is idle",
        )
