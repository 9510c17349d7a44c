"""After a run: symptom, cause, cure. Each rule looks at what the run recorded and says what it means.

::

    rules over the logs ─ symptoms ┐
    what the plan had found ───────┴─ symptoms with their causes, then the plan's own findings
"""

import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace

from congling.core.diagnosis import Diagnosis, worst_first
from congling.core.units import plural
from congling.evals.collapse import warnings
from congling.plan import advice_numbers
from congling.report.advice import ANEW, against_overfitting, longer, planned, with_causes
from congling.report.budget import cause_of, pace_of, show_step
from congling.report.record import RunRecord, mapping, numeric, peak_lr
from congling.train.config import BETTER
from congling.train.runs.spikes import SpikeDetector

SLOW = 1.5
"""How many times as long as planned steps may take without a word."""
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
    return [replace(one, why=why, remedy=_GO_BACK) if one.code in _TOO_SHORT else one for one in found]


_TOO_SHORT = {"at-unigram", "above-bigram", "still-falling", "rate-not-lowered"}
"""Findings that say to train longer, which mends no run that diverged."""
_GO_BACK = (
    "lower train.optimizer.learning_rate (a half to a tenth) or lengthen train.schedule.warmup_ratio, "
    "and train anew; "
    "train.on_spike=rollback goes back to the last good checkpoint by itself"
)


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
            _GO_BACK,
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
            "the batches in between were passed over, and are never learnt",
            "lower the rate a little next time, and look at the text around these steps",
        )


def everything(run: RunRecord) -> list[Diagnosis]:
    """What is wrong with the record itself, and what the rules say of the rest; the worst first."""
    return worst_first([*damaged(run), *explain(run)])


def stuck(run: RunRecord) -> Iterator[Diagnosis]:
    """Held-out loss against the reference lines: what the model has learnt at all."""
    best = run.best
    # The loss of all held-out text where it was measured: during training only a part is scored.
    complete = numeric(mapping(run.results.get("held_out")).get("bits_per_character"))
    lines = run.reference_lines if complete is None else run.scored_lines
    bits = complete if complete is not None or best is None else best.bits_per_character
    if best is None or bits is None or "unigram" not in lines:
        return
    trained = training_bits(run)
    if bits > 0.97 * lines["unigram"] and trained is not None and trained < 0.5 * bits:
        yield Diagnosis(
            "warning",
            "memorised",
            f"held-out loss {bits:.2f} bits/character is no better than single-character frequencies "
            f"({lines['unigram']:.2f}), training loss is {trained:.2f}",
            "the model memorised the training text and knows nothing of other text",
            "fine where that is wanted: it continues what it has read; for anything more, add text",
        )
    elif bits > 0.97 * lines["unigram"]:
        yield Diagnosis(
            "error",
            "at-unigram",
            f"held-out loss {bits:.2f} bits/character is no better than single-character frequencies "
            f"({lines['unigram']:.2f})",
            "the model learnt which characters are common and nothing else: too few updates, or a "
            "learning rate far too small or too large",
            f"{ANEW}: check the rate (about {advice_numbers.MUON_RATE:g} for Muon, "
            f"1e-3 to {advice_numbers.ADAMW_RATE:g} for AdamW), and train for some hundred steps at least",
        )
    elif "bigram" in lines and bits > lines["bigram"]:
        yield Diagnosis(
            "warning",
            "above-bigram",
            f"held-out loss {bits:.2f} bits/character is above the bigram line ({lines['bigram']:.2f})",
            "a table of character pairs predicts this text better: the run ended early in learning",
            f"{longer(run)}; or {ANEW} with smaller batches and more updates",
        )
    elif "bigram" in lines:
        yield Diagnosis(
            "note",
            "below-bigram",
            f"held-out loss {bits:.2f} bits/character is {lines['bigram'] - bits:.2f} below the bigram line",
            "the model uses more than the preceding character",
            "",
        )
    if "floor" in lines and bits < 0.98 * lines["floor"]:
        yield Diagnosis(
            "error",
            "below-floor",
            f"held-out loss {bits:.2f} is below the source's entropy of {lines['floor']:.2f}",
            "no model can be: held-out text is in the training text, or counts of characters are wrong",
            "make the documents again and look at what was dropped as duplicate",
        )


def held_out_change(run: RunRecord) -> Iterator[Diagnosis]:
    """Of a run that began with a trained model: whether held-out rows are any better than before it."""
    looks = run.looks
    chosen = mapping(run.config.get("train")).get("metric_for_best_model")
    name = chosen if isinstance(chosen, str) and chosen in BETTER else "loss"
    measured = {step: look[name] for step, look in looks.items() if name in look}
    if 0 not in measured or len(measured) < 2:
        return
    first, lower = measured.pop(0), BETTER[name] == "lower"
    best = min(measured.values()) if lower else max(measured.values())
    told = f"held-out {name.replace('_', ' ')} {first:.3f} before training, {best:.3f} at its best after"
    if best < first if lower else best > first:
        yield Diagnosis(
            "note", "better", told, "what was learnt holds for rows that were not learnt from", ""
        )
    else:
        yield Diagnosis(
            "warning",
            "not-better",
            told,
            "training has not helped on held-out rows: what was learnt is only the training rows, or nothing",
            f"{ANEW}: a lower rate, fewer steps, or more rows",
        )


def overfitting(run: RunRecord) -> Iterator[Diagnosis]:
    """Held-out loss rises while training loss falls."""
    best = run.best
    if best is None or len(run.held_out) < 3:
        return
    last = run.held_out[-1]
    after = [row.loss for row in run.steps if row.step > best.step and not row.skipped]
    before = [row.loss for row in run.steps if row.step <= best.step and not row.skipped][
        -max(1, len(after)) :
    ]
    if last.bits_per_character < 1.02 * best.bits_per_character or not after or not before:
        return
    tail = after[-max(1, len(after) // 3) :]
    if statistics.fmean(tail) < statistics.fmean(before):
        last_kept = mapping(run.config.get("train")).get("load_best_model_at_end") is False
        kept = (
            "the last weights are the result all the same, since this text can only be memorised"
            if last_kept
            else "the best checkpoint was kept and is the one to use"
        )
        yield Diagnosis(
            "warning",
            "overfitting",
            f"held-out loss was lowest at step {best.step:,} ({best.bits_per_character:.2f}) and rose "
            f"to {last.bits_per_character:.2f} while training loss kept falling",
            "from there on the model memorised the training text",
            f"{kept}; {against_overfitting(run)}",
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


def still_falling(run: RunRecord) -> Iterator[Diagnosis]:
    """The run ended while it was learning fast."""
    if len(run.held_out) < 4 or not run.steps:
        return
    first, last = run.held_out[-2], run.held_out[-1]
    if first.bits_per_character <= 0:  # no loss of text
        return
    peak = peak_lr(run.config) or max((row.lr for row in run.steps if row.lr == row.lr), default=1.0)
    rate = run.steps[-1].lr / max(peak, 1e-30)  # the share of the peak it ended with
    fell = 1 - last.bits_per_character / first.bits_per_character
    if fell > 0.01 and rate > 0.3:
        yield Diagnosis(
            "note",
            "rate-not-lowered",
            "the run ended with the learning rate still high",
            "lowering it to zero over the last part of a run usually gains several percent",
            f"{ANEW}: use the schedule wsd with a decay of 0.2 to 0.5",
        )
    elif fell > 0.02:
        yield Diagnosis(
            "note",
            "still-falling",
            f"held-out loss fell by {fell:.1%} over the last stretch",
            "the model had not finished learning",
            longer(run),
        )


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


def training_bits(run: RunRecord) -> float | None:
    """Median training loss of the last tenth of the steps, in bits per character."""
    tail = run.steps[-max(1, len(run.steps) // 10) :]
    bits = [row.bits_per_character for row in tail if math.isfinite(row.bits_per_character)]
    return statistics.median(bits) if bits else None


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
    slower_than_planned,
)
"""Every rule, in the order of their findings within one severity."""
