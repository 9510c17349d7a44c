"""Early signs that a model in training is collapsing, from the numbers and texts its run logs; no torch.

Each rule reads rows as they stand in ``metrics.jsonl`` and ``samples.jsonl``, and gives a finding with the
number it measured, or nothing::

    texts   repeating-samples   one piece over and over
            one-answer          the same words whatever is asked
            template-leakage    marks of the template in the answers
    both    no-end-of-turn      answers that only the limit ends
            reward-by-length    reward and length grow together
    numbers kl-explosion        far away from the model it started from
    and those of ``hacking.py``: what is learnt rises, and what is wanted does not

The bounds are set so that a healthy run of the small world gives none of them; they are warnings, and a
person decides. Of texts the last evaluation counts, of numbers the median of the last tenth.
"""

import re
import statistics
from collections import Counter
from collections.abc import Iterator

from congling.core.diagnosis import Diagnosis
from congling.data.repetition import repeated_share
from congling.evals import hacking
from congling.evals.logged import Rows, by_step, column, correlation, head, number, tail

MOST_REPEATED = 0.5
SHORTEST = 40
"""Characters below which a text is too short to say that it repeats."""
MOST_KL, KL_GROWTH = 1.0, 3.0
LENGTH_GROWTH, LEAST_CORRELATION = 1.5, 0.6
FEWEST_ROLLOUTS = 16
FEWEST_STEPS = 10
LEAST_ENDED, FEWEST_ANSWERS = 0.3, 4
MOST_ALIKE = 0.8
YOUNG = 3
"""Looks before which a model may still loop, ramble and say one thing: it has not learnt better yet."""
CHILDISH = frozenset({"repeating-samples", "one-answer", "no-end-of-turn"})

_MARKS = re.compile(
    r"<\|[a-z0-9_]{2,24}\|>|<｜[^｜<>]{2,40}｜>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|</s>|\[g?MASK\]|"
    r"\[Round \d+\]|(?:^|\n)(?:assistant|user|system)\n"
)


def warnings(metrics: Rows, samples: Rows) -> list[Diagnosis]:
    """All early signs in the logs of a run so far.

    Args:
        metrics: rows of numbers by step; ``kl`` in nats per token, ``length`` in tokens, ``ended`` and
            ``reward`` as means over the rollouts of a step.
        samples: rows of ``step``, ``prompt``, ``text``; perhaps ``ended`` and ``reward``.
    """
    texts: Rows = told[-1] if (told := by_step(samples)) else ()
    found = (
        repetition(texts),
        one_answer(texts),
        template_leakage(texts),
        no_end_of_turn(metrics, texts),
        reward_by_length(metrics, texts),
        kl_explosion(metrics),
        *(rule(metrics, samples) for rule in hacking.RULES),
    )
    return [finding for one in found for finding in one]


def watch(metrics: Rows, samples: Rows) -> list[Diagnosis]:
    """As :func:`warnings`, of a run that goes on: what a model does from its first evaluation is left out."""
    found, told = warnings(metrics, samples), by_step(samples)
    if not 0 < len(told) < YOUNG:
        return found
    always = [{finding.code for finding in warnings(metrics, look)} for look in told]
    return [
        one for one in found if one.code not in CHILDISH or not all(one.code in codes for codes in always)
    ]


def repetition(texts: Rows) -> Iterator[Diagnosis]:
    """Texts that end in a loop, or most of whose pieces stood before in the same text."""
    written = [str(row["text"]) for row in texts]
    looping = [text for text in written if repeats(text) or _mostly_repeated(text)]
    if looping:
        worst = max(looping, key=repeated_share)
        yield Diagnosis(
            "warning",
            "repeating-samples",
            f"{len(looping)} of {len(written)} last samples repeat themselves "
            f"({repeated_share(worst):.0%} of its pieces return): {worst.rstrip()[-24:]!r}",
            "a model that knows little puts most probability on one frequent piece, and greedy or "
            "cold sampling falls into its loop; one that is rewarded for length learns to",
            "train further; sample with temperature 0.8 and top-p 0.9, or a repetition penalty of 1.1; "
            "in a run with rewards, reward less for length",
        )


def one_answer(texts: Rows) -> Iterator[Diagnosis]:
    """The same answer to different questions: of each question the first answer counts."""
    answers = {str(row["prompt"]): str(row["text"]).strip() for row in reversed(texts)}
    if len(answers) < FEWEST_ANSWERS:
        return
    text, count = Counter(answers.values()).most_common(1)[0]
    if len(text) <= 2 and len(answers) < 3 * FEWEST_ANSWERS:
        return  # of a few yes or no, all may well be the same
    if count >= MOST_ALIKE * len(answers):
        yield Diagnosis(
            "warning",
            "one-answer",
            f"{count} of {len(answers)} different questions get the same answer: {text[:24]!r}",
            "the model found one answer that is never very wrong, and stopped reading the question",
            "go back to an earlier checkpoint; a lower rate, more varied rows, or a reward that this answer "
            "does not get",
        )


def template_leakage(texts: Rows) -> Iterator[Diagnosis]:
    """Special tokens of a chat template inside answers, written as ordinary characters."""
    marks = [mark[0].strip() for row in texts if (mark := _MARKS.search(str(row["text"])))]
    if marks:
        mark = Counter(marks).most_common(1)[0][0]
        yield Diagnosis(
            "warning",
            "template-leakage",
            f"{len(marks)} of {len(texts)} last answers contain special tokens of a template: {mark!r}",
            "the rows hold a template as text of their own, or the answers were rendered twice",
            "remove them from the rows (`congling data inspect` shows the loss mask), and give "
            "conversations as messages",
        )


def no_end_of_turn(metrics: Rows, texts: Rows) -> Iterator[Diagnosis]:
    """Few answers end by themselves; the logged share counts, else the last samples that say so."""
    shares, known = column(metrics, "ended"), [bool(row["ended"]) for row in texts if "ended" in row]
    if len(shares) >= FEWEST_STEPS:
        share, of = statistics.median(tail(shares)), "of the answers in the last steps"
    elif len(known) >= FEWEST_ANSWERS:
        share, of = statistics.fmean(known), f"of {len(known)} last answers"
    else:
        return
    if share < LEAST_ENDED:
        yield Diagnosis(
            "warning",
            "no-end-of-turn",
            f"{share:.0%} {of} end by themselves, the others at the limit",
            "the end of a turn was never learnt (rows cut at the context, or a template without one), is "
            "forgotten, or length is rewarded; or the limit is too short for an answer",
            "raise the limit if answers are cut off in good order; else rows whose answers end inside the "
            "context, or a reward of 0 for answers that do not end",
        )


def reward_by_length(metrics: Rows, texts: Rows) -> Iterator[Diagnosis]:
    """Reward rises with length, over the steps and, where rollouts were logged, within them."""
    both = [
        (row["reward"], row["length"]) for row in metrics if number(row, "reward") and number(row, "length")
    ]
    if len(both) < FEWEST_STEPS:
        return
    rewards, lengths = [reward for reward, _ in both], [length for _, length in both]
    grown = statistics.median(tail(lengths)) / max(1e-9, statistics.median(head(lengths)))
    gained = statistics.median(tail(rewards)) - statistics.median(head(rewards))
    over_steps = correlation(rewards, lengths)
    rollouts = [(row["reward"], len(str(row["text"]))) for row in texts if number(row, "reward")]
    within = correlation(*zip(*rollouts, strict=True)) if len(rollouts) >= FEWEST_ROLLOUTS else None
    if grown < LENGTH_GROWTH or gained <= 0 or over_steps < LEAST_CORRELATION:
        return
    if within is not None and within < LEAST_CORRELATION:
        return  # longer answers of one step are not the better rewarded ones
    told = "" if within is None else f", {within:.2f} over {len(rollouts)} rollouts"
    yield Diagnosis(
        "warning",
        "reward-by-length",
        f"answers became {grown:.1f} times as long while the reward rose by {gained:.2f} "
        f"(correlation {over_steps:.2f} over the steps{told})",
        "the reward may be paid for length instead of for being right",
        "read the last rollouts; reward the same at any length, subtract a little for each token, or divide "
        "the loss by a constant length (Dr. GRPO)",
    )


def kl_explosion(metrics: Rows) -> Iterator[Diagnosis]:
    """Distance from the reference in nats per token, beyond a bound and still growing."""
    values = column(metrics, "kl")
    if len(values) < FEWEST_STEPS:
        return
    now, before = statistics.median(tail(values)), statistics.median(values[: len(values) // 2])
    if now > MOST_KL and now > KL_GROWTH * max(0.0, before):
        yield Diagnosis(
            "warning",
            "kl-explosion",
            f"the policy is {now:.2f} nats per token away from its reference, over the first half it was "
            f"{before:.2f}",
            "it leaves the text it was trained on in order to be rewarded; what it writes soon reads badly",
            "a larger beta (the weight of the KL), a lower rate, or an earlier checkpoint",
        )


def repeats(text: str) -> bool:
    """Whether the end of a text is one piece of up to 8 characters over and over, for 16 characters or
    more."""
    tail = text.rstrip()[-48:]
    for size in range(1, min(8, len(tail)) + 1):
        piece = tail[-size:]
        count = 1
        while tail.endswith(piece * (count + 1)):
            count += 1
        if count >= 3 and count * size >= 16:
            return True
    return False


def _mostly_repeated(text: str) -> bool:
    return len(text) >= SHORTEST and repeated_share(text) > MOST_REPEATED
