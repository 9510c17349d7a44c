"""How often a run evaluates, writes samples and saves, and which of its weights are the result."""

import math
from typing import Any

from congling.plan import advice_numbers
from congling.plan.advise_batch import tokens_of
from congling.plan.choices import Choices
from congling.plan.corpus_facts import CorpusFacts
from congling.plan.recipe import Recipe

LOOKS, SAMPLES, SAVES = 12, 6, 20
"""Held-out losses, samples and checkpoints during a run, at most."""


def intervals(
    choices: Choices, recipe: Recipe, train: dict[str, Any], corpus: CorpusFacts, seconds: float
) -> dict[str, Any]:
    """How often and on how much text to evaluate: often enough to see the curve, in a twelfth of the
    training time."""
    steps = train["max_steps"]
    looks = min(steps, max(2, min(LOOKS, steps // 20)))
    affordable = int(
        steps * tokens_of(train) / 12 * 3 / looks
    )  # scoring a token costs a third of training on it
    result = {
        "eval_steps": choices.pick("eval_steps", math.ceil(steps / looks), f"{looks} points on the curve"),
        "sample_steps": choices.pick(
            "sample_steps",
            max(50, math.ceil(steps / SAMPLES)),
            "writing takes time, and fewer steps change little; there is always a sample at the end",
        ),
        "save_steps": choices.pick(
            "save_steps",
            math.ceil(steps / _saves(seconds)),
            "checkpoints to resume from after an interruption, in a fiftieth of the time",
        ),
    }
    if affordable < corpus.validation_tokens:
        least = min(corpus.validation_tokens, max(2000, affordable))
        result["eval_tokens"] = choices.pick(
            "eval_tokens",
            least,
            "the part of the held-out text that a twelfth of "
            "the time can score at every point; all of it is scored at the end",
        )
    if corpus.tokens < advice_numbers.TINY_TOKENS:
        result["load_best_model_at_end"] = choices.pick(
            "load_best_model_at_end",
            False,
            "the text can only be memorised: held-out loss says nothing",
        )
    if recipe.samples:
        result["sample_prompts"] = recipe.samples
    return result


def _saves(seconds: float) -> int:
    """Checkpoints of a run that takes so long."""
    return max(2, min(SAVES, int(seconds / 50 / advice_numbers.SECONDS_PER_CHECKPOINT)))
