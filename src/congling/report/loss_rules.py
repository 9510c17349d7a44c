"""What the losses of a run tell: what was learnt at all, whether it was memorised, whether more would be."""

import math
import statistics
from collections.abc import Iterator

from congling.core.diagnosis import Diagnosis
from congling.plan import advice_numbers
from congling.report.advice import ANEW, against_overfitting, longer
from congling.report.record import RunRecord, mapping, numeric, peak_lr
from congling.train.config import BETTER


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
        yield Diagnosis("note", "better", told, "what was learnt generalises to held-out rows", "")
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


def training_bits(run: RunRecord) -> float | None:
    """Median training loss of the last tenth of the steps, in bits per character."""
    tail = run.steps[-max(1, len(run.steps) // 10) :]
    bits = [row.bits_per_character for row in tail if math.isfinite(row.bits_per_character)]
    return statistics.median(bits) if bits else None
