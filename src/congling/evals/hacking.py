"""Early signs that a model is rewarded, or preferred, for the wrong thing: rules over curves, as those of
``collapse.py``::

    falling-chosen      the better answers lose probability along with the worse (DPO and its relatives)
    falling-diversity   what is written repeats more and more: distinct n-grams (Li et al. 2016) fall
    length-drift        answers become twice as long, or a third
    reward-hacking      the reward rises in training, and falls on held-out prompts or by another reward
    entropy-collapse    the reward rises while a model stops trying anything else

Compared are medians of the first and the last tenth of the steps, or of the first and last evaluations.
"""

import statistics
from collections.abc import Callable, Iterator

from congling.core.diagnosis import Diagnosis
from congling.evals.logged import Rows, by_step, column, head, tail

FEWEST_STEPS, FEWEST_LOOKS = 10, 4
MOST_LOST = 5.0
"""Nats of a whole answer. Healthy rounds of DPO lost 0.3 and 0.6; one that lost 10 won 29 % of its cases."""
GRAM, LEAST_DISTINCT = 4, 0.7
"""Characters of an n-gram, and the share of the first evaluations' distinct n-grams that may be left."""
SHORTEST = 100
"""Characters of an evaluation below which nothing is said of its n-grams."""
LONGER, SHORTER = 2.0, 1 / 3
LEAST_GAIN, MOST_FALLEN = 0.25, 0.1
"""By how much a reward has risen, or fallen: in deviations of the rewards of a step; one of several rewards
in shares of its largest."""
LEAST_ENTROPY = 0.1
"""Share of the first steps' entropy."""


def falling_chosen(metrics: Rows, samples: Rows) -> Iterator[Diagnosis]:
    """Log-probability of the better answers, in nats since the first steps."""
    values = column(metrics, "chosen")
    if len(values) < FEWEST_STEPS:
        return
    lost = statistics.median(head(values)) - statistics.median(tail(values))
    if lost > MOST_LOST:
        yield Diagnosis(
            "warning",
            "falling-chosen",
            f"the chosen answers have lost {lost:.1f} nats of log-probability since the first steps",
            "the loss sees differences alone: both answers are pushed down, and what they lose goes to texts "
            "in no pair; accuracy and margin look well all the while",
            "preference.rpo_alpha=0.1 to 1, a larger preference.beta, a lower rate, fewer steps; pairs "
            "of the "
            "model's own answers (`congling pairs`)",
        )


def falling_diversity(metrics: Rows, samples: Rows) -> Iterator[Diagnosis]:
    """Distinct n-grams of characters among all texts of an evaluation, first against last."""
    shares = [share for look in by_step(samples) if (share := _distinct(look)) is not None]
    if len(shares) < FEWEST_LOOKS:
        return
    first, last = (statistics.median(part) for part in (shares[:2], shares[-2:]))
    if last < LEAST_DISTINCT * first:
        yield Diagnosis(
            "warning",
            "falling-diversity",
            f"{last:.0%} of the {GRAM}-grams in the last samples are different, at first {first:.0%}",
            "the model says the same more and more often: a phrase is rewarded or learnt, not an answer",
            "read the samples; a reward that repetition does not get, a larger beta, a lower rate",
        )


def length_drift(metrics: Rows, samples: Rows) -> Iterator[Diagnosis]:
    """Answers of rollouts that become much longer or shorter, whatever the reward does."""
    values = column(metrics, "length")
    if len(values) < FEWEST_STEPS:
        return
    first, last = statistics.median(head(values)), statistics.median(tail(values))
    if not SHORTER < last / max(1e-9, first) < LONGER:
        yield Diagnosis(
            "warning",
            "length-drift",
            f"answers have {last:.0f} tokens, at first {first:.0f}",
            "the reward pays for length or for shortness: a wrong answer may cost less when it is short, and "
            "an endless one nothing",
            "rollout.truncated_reward=0.0, a small reward for the length that is wanted, "
            "grpo.soft_punish_cache",
        )


def reward_hacking(metrics: Rows, samples: Rows) -> Iterator[Diagnosis]:
    """The training reward rises, and the held-out one, or one of several rewards by itself, falls."""
    rewards, spreads = column(metrics, "reward"), column(metrics, "reward_std")
    if len(rewards) < FEWEST_STEPS or not spreads:
        return
    spread = max(1e-9, statistics.median(head(spreads)))
    gained = (statistics.median(tail(rewards)) - statistics.median(head(rewards))) / spread
    if gained < LEAST_GAIN:
        return
    for name in sorted({name for row in metrics for name in row if name.startswith("validation_reward")}):
        values = column(metrics, name)
        if len(values) < FEWEST_LOOKS:
            continue
        fallen = statistics.median(values[:2]) - statistics.median(values[-2:])
        scale = spread if name == "validation_reward" else max(map(abs, values))
        if fallen > MOST_FALLEN * scale:
            yield Diagnosis(
                "warning",
                "reward-hacking",
                f"the reward of rollouts rose by {gained:.1f} of its deviations while "
                f"{name.removeprefix('validation_')} of held-out prompts fell by {fallen:.2f}",
                "the model found what the reward misses (reward hacking), or memorised its prompts",
                "an earlier checkpoint (train.metric_for_best_model); a better reward model, from more pairs "
                "of its own answers; "
                "a larger beta; a rule beside it, at weight 0 to watch it",
            )
            return


def entropy_collapse(metrics: Rows, samples: Rows) -> Iterator[Diagnosis]:
    """The reward rises, and next to nothing is left of the entropy."""
    entropies, rewards = column(metrics, "entropy"), column(metrics, "reward")
    if min(len(entropies), len(rewards)) < FEWEST_STEPS:
        return
    first, last = statistics.median(head(entropies)), statistics.median(tail(entropies))
    if last < LEAST_ENTROPY * first and statistics.median(tail(rewards)) > statistics.median(head(rewards)):
        yield Diagnosis(
            "warning",
            "entropy-collapse",
            f"the entropy fell from {first:.2f} to {last:.3f} nats per token while the reward rose",
            "the model is sure of one way to be rewarded and tries no other, so nothing more is found out",
            "a rate a third as high, entropy_coef=0.003, epsilon_high=0.28, more prompts; "
            "fine where one is right",
        )


def _distinct(look: Rows) -> float | None:
    """Distinct n-grams as a share of all in the texts of an evaluation; None where there is too little."""
    texts = [str(row["text"]) for row in look]
    grams = [text[i : i + GRAM] for text in texts for i in range(len(text) - GRAM + 1)]
    return len(set(grams)) / len(grams) if sum(map(len, texts)) >= SHORTEST else None


RULES: tuple[Callable[[Rows, Rows], Iterator[Diagnosis]], ...] = (
    falling_chosen,
    falling_diversity,
    length_drift,
    reward_hacking,
    entropy_collapse,
)
