"""Mistakes of a training run: its rates, warm-up, passes over the text and batch."""

import math
from collections.abc import Iterator

from congling.core.diagnosis import Diagnosis
from congling.core.units import plural, show_count
from congling.plan import advice_numbers
from congling.plan.advise_optimizer import WARMUP_STEPS, least_warmup
from congling.plan.situation import BATCH, Situation
from congling.train.schedule import warmup_steps


def learning_rate(s: Situation) -> Iterator[Diagnosis]:
    """A fine-tuning rate on random weights learns nothing; one far too high destroys them."""
    optimizer = s.train.optimizer
    muon = optimizer.kind == "muon"
    low, high, usual = (
        (2e-3, 0.1, advice_numbers.MUON_RATE) if muon else (1e-4, 1e-2, advice_numbers.ADAMW_RATE)
    )
    if s.fresh and optimizer.learning_rate < low:
        severity = "error" if optimizer.learning_rate < low / 3 else "warning"
        yield Diagnosis(
            severity,
            "fine-tuning-rate",
            f"the learning rate {optimizer.learning_rate:g} is a fine-tuning rate",
            "from random weights the model must move far: at this rate it stays near the unigram "
            "line for the whole run",
            f"use about {usual:g} for {optimizer.kind}, or leave the rate out",
        )
    if optimizer.learning_rate > high:
        yield Diagnosis(
            "error" if optimizer.learning_rate > 5 * high else "warning",
            "rate-too-high",
            f"the learning rate {optimizer.learning_rate:g} is far above what {optimizer.kind} bears",
            "the loss jumps or becomes NaN within a few dozen steps",
            f"use about {usual:g}",
        )
    if optimizer.kind == "muon" and (
        optimizer.embedding_learning_rate > 1.5 or optimizer.head_learning_rate > 0.03
    ):
        yield Diagnosis(
            "warning",
            "table-rate-too-high",
            f"the embedding's rate {optimizer.embedding_learning_rate:g} is above 1.5, or the head's "
            f"{optimizer.head_learning_rate:g} above 0.03",
            "AdamW moves every value by about its rate at each step",
            f"use about {advice_numbers.REGULARISATION[0].embedding_rate:g} and {advice_numbers.HEAD_RATE:g}",
        )


def warmup(s: Situation) -> Iterator[Diagnosis]:
    """The first gradients of random weights point anywhere."""
    steps, least = warmup_steps(s.train.schedule, s.train.max_steps), least_warmup(s.train.max_steps)
    if s.fresh and steps < WARMUP_STEPS and least:
        severity = "note" if s.train.max_steps < 100 else "warning"
        when = "from the first step on" if steps == 0 else "after 1 step"
        tables_too = " (it moves embedding and head)" if s.train.optimizer.kind == "muon" else ""
        yield Diagnosis(
            severity,
            "no-warmup",
            f"the rate is at its peak {when}",
            f"AdamW's averages are empty{tables_too} and early gradients are large: full steps throw the "
            "weights off, sometimes for good",
            f"set train.schedule.warmup_ratio to {max(0.02, math.ceil(1000 * least) / 1000):g} or more",
        )


def passes(s: Situation) -> Iterator[Diagnosis]:
    """Reading the same text many times without holding the model back is memorising."""
    count = s.cost.passes
    tiny = s.corpus.tokens < advice_numbers.TINY_TOKENS
    if tiny:
        yield Diagnosis(
            "note",
            "will-memorise",
            f"{show_count(s.corpus.characters)} {plural(s.corpus.characters, 'character')} of text: "
            "too few to learn a language from",
            f"the text is read {count:.0f} times: the model will memorise it and continue it, "
            "not write new text",
            "fine for a first try; add text for anything more",
        )
    if count > 4 and s.model.dropout == 0 and not tiny:
        yield Diagnosis(
            "warning",
            "no-dropout",
            f"no dropout, but {count:.1f} passes over the text",
            "from about the fourth pass on a model without noise memorises: held-out loss rises "
            "while training loss falls",
            f"set model.dropout to {advice_numbers.regularisation_for(count).dropout:g}, "
            "or train for fewer passes",
        )
    advised = advice_numbers.regularisation_for(count).weight_decay
    if count > 4 and s.train.optimizer.weight_decay < advised / 3 and not tiny:
        yield Diagnosis(
            "warning",
            "tiny-weight-decay",
            f"weight decay {s.train.optimizer.weight_decay:g} for {count:.1f} passes",
            "decay is what keeps weights from growing to fit single sentences when they come again and again",
            f"set optimizer.weight_decay to about {advised:g}",
        )
    if count > 2 * advice_numbers.MOST_PASSES and not tiny:
        yield Diagnosis(
            "warning",
            "many-passes",
            f"{count:.0f} passes over the text",
            f"after about {advice_numbers.MOST_PASSES} passes held-out loss no longer falls",
            "train for fewer steps, or add text" if s.gives("train.max_steps") else "add text",
        )


def batch(s: Situation) -> Iterator[Diagnosis]:
    """Too much text in a step, or too few steps."""
    if s.cost.tokens_per_step > s.corpus.tokens / 2:
        yield Diagnosis(
            "warning",
            "batch-too-big",
            f"a step takes {show_count(s.cost.tokens_per_step)} tokens of {show_count(s.corpus.tokens)}",
            "every step sees most of the text: few updates, and no benefit from different batches",
            "lower " + " or ".join(key for key in BATCH if s.gives(key)) if s.gives(*BATCH) else "add text",
        )
    if s.train.max_steps < 100 and s.fresh:
        yield Diagnosis(
            "note",
            "few-steps",
            f"only {s.train.max_steps} {plural(s.train.max_steps, 'step')}",
            "a model needs some hundred updates to get past the frequencies of single pieces",
            longer(s) + (", or smaller batches" if s.gives(*BATCH) else ""),
        )


def longer(s: Situation) -> str:
    """How to train for more steps."""
    return "more train.max_steps" if s.gives("train.max_steps") else "a longer budget"
