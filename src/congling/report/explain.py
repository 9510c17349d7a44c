"""After a run: symptom, cause, cure. Each rule looks at what the run recorded and says what it means.

::

    rules over the logs ─ symptoms ┐
    what the plan had found ───────┴─ symptoms with their causes, then the plan's own findings
"""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace

from congling.core.diagnosis import Diagnosis, worst_first
from congling.evals.collapse import warnings
from congling.report.advice import planned, with_causes
from congling.report.length_rules import extended_context
from congling.report.loss_rules import held_out_change, overfitting, still_falling, stuck
from congling.report.record import RunRecord, numeric
from congling.report.step_rules import GO_BACK, loss_spikes, not_finite, slower_than_planned, spikes

Rule = Callable[[RunRecord], Iterator[Diagnosis]]


def explain(run: RunRecord) -> list[Diagnosis]:
    """All there is to say of a run, the worst first: what its logs show, and what was known before it."""
    known = planned(run)
    symptoms = _not_too_short([finding for rule in RULES for finding in rule(run)])
    return worst_first([*with_causes(symptoms, known), *known])


def _not_too_short(found: list[Diagnosis]) -> list[Diagnosis]:
    """The findings, none of which says to train longer where the run diverged."""
    broken = next((one for one in found if one.code == "diverged"), None)
    if broken is None:
        return found
    why = f"{broken.what}: what it had learnt before is lost"
    return [replace(one, why=why, remedy=GO_BACK) if one.code in _TOO_SHORT else one for one in found]


_TOO_SHORT = {"at-unigram", "above-bigram", "still-falling", "rate-not-lowered"}
"""Findings that say to train longer, which mends no run that diverged."""


def everything(run: RunRecord) -> list[Diagnosis]:
    """What is wrong with the record itself, and what the rules say of the rest; the worst first."""
    return worst_first([*damaged(run), *explain(run)])


def collapse(run: RunRecord) -> Iterator[Diagnosis]:
    """Early signs of collapse in the numbers and texts of the run, and those seen while it trained."""
    samples = [vars(sample) for sample in run.samples]
    found = warnings(run.metrics, [{k: v for k, v in row.items() if v is not None} for row in samples])
    yield from found
    for event in run.events:
        code, step = str(event.get("code")), numeric(event.get("step"))
        if event.get("event") == "warning" and step is not None and code not in {one.code for one in found}:
            yield Diagnosis(
                "note",
                "warned-earlier",
                f"warned at step {step:,.0f} of {code[:40]}: {str(event.get('what', ''))[:200]}",
                "at the end of the run this sign is gone, or there are no texts and numbers to see it in",
                "look at the samples of that time if the run came out worse than expected",
            )


def damaged(run: RunRecord) -> Iterator[Diagnosis]:
    """Parts of the record that are damaged: what is said here rests on the rest."""
    for fault in run.faults:
        yield Diagnosis(
            "warning",
            "damaged-record",
            fault,
            "a full disk, a power loss or an edit: what is told of the run rests on what is left",
            "weights are checked by themselves and not touched by it; restore the file from a copy if there "
            "is one",
        )


def seconds_per_step(run: RunRecord) -> float | None:
    """Median seconds of a step, from the timing log and the tokens of a step."""
    speeds = [speed for row in run.timing if (speed := numeric(row.get("tokens_per_second")) or 0) > 0]
    steps = [row for row in run.steps if row.step]
    if not speeds or not steps:
        return None
    return steps[-1].tokens / steps[-1].step / statistics.median(speeds)


RULES: tuple[Rule, ...] = (
    loss_spikes,
    stuck,
    held_out_change,
    overfitting,
    not_finite,
    spikes,
    still_falling,
    collapse,
    extended_context,
    slower_than_planned,
)
"""Every rule, in the order of their findings within one severity."""
