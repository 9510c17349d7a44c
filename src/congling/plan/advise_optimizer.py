"""Optimizer, schedule and what else is set by the number of steps and of passes over the text."""

import math
from typing import Any

from congling.model.config import ModelConfig
from congling.plan import advice_numbers
from congling.plan.advise_batch import LEAST_STEPS
from congling.plan.choices import Choices

WARMUP_STEPS = 2
"""A warm-up of fewer is none."""


def optimizer_of(
    choices: Choices,
    model: ModelConfig,
    steps: int,
    rules: advice_numbers.Regularisation,
    passes: float,
    share: float,
) -> dict[str, Any]:
    """Optimizer with its rates, of which weights trained before get a ``share``."""
    given = choices.given.get("optimizer", {})
    if isinstance(given, dict) and given.get("kind") == "adamw":
        advised: dict[str, Any] = {
            "kind": "adamw",
            "learning_rate": round(
                advice_numbers.ADAMW_RATE * math.sqrt(128 / max(64, model.hidden_size)), 5
            ),
            "weight_decay": max(0.1, rules.weight_decay),
        }
    else:
        advised = {
            "kind": "muon",
            "learning_rate": advice_numbers.MUON_RATE,
            "embedding_learning_rate": rules.embedding_rate,
            "head_learning_rate": advice_numbers.HEAD_RATE,
            "scalar_learning_rate": advice_numbers.SCALAR_RATE,
            "weight_decay": rules.weight_decay,
            "embedding_weight_decay": advice_numbers.TABLE_DECAY if rules.ema else 0.0,
            "momentum_warmup_steps": min(150, max(1, steps // 2)),
        }
    why = (
        "orthogonal updates need fewer steps than AdamW's; rates measured on small Chinese "
        f"corpora; weight decay for {passes:.1f} passes"
    )
    if share != 1:
        advised |= {
            key: round(value * share, 6) for key, value in advised.items() if key.endswith("learning_rate")
        }
        why += f"; {share:g} of the rates for random weights, as these know something already"
        if share < advice_numbers.START_SHARE:
            why += ", and a sign turns a whole weight over"
    return choices.complete("optimizer", advised, why)


def schedule_of(choices: Choices, rules: advice_numbers.Regularisation, steps: int) -> dict[str, Any]:
    """Warm-up, and how the rate falls."""
    given = choices.given.get("schedule", {})
    if isinstance(given, dict) and given.get("kind", "wsd") != "wsd":
        return choices.complete("schedule", {}, "")
    warmup = max(0.02, round(least_warmup(steps), 3))
    advised = {
        "kind": "wsd",
        "warmup_ratio": warmup,
        "decay_ratio": 0.6 if rules.ema else 0.5,
        "decay_type": "linear",
    }
    return choices.complete(
        "schedule", advised, "a short warm-up for random weights, then a long fall to zero"
    )


def against_overfitting(choices: Choices, steps: int, rules: advice_numbers.Regularisation) -> dict[str, Any]:
    """What is set by the number of passes alone; dropout belongs to the model, decay to the optimizer."""
    average = round(min(0.999, max(0.9, 1 - 1 / (0.1 * steps + 1))), 4)
    return {
        "ema_decay": choices.pick(
            "ema_decay",
            average if rules.ema else None,
            "averages the last tenth of the run, which generalises better when data repeat"
            if rules.ema
            else "the falling rate already averages; worth its memory only when data repeat",
        ),
        "token_split_prob": choices.pick(
            "token_split_prob",
            rules.split_pieces,
            "the text is tokenised in another way each time, so that it is harder to memorise"
            if rules.split_pieces
            else "each piece is met too rarely to break it up",
        ),
        "token_noise_prob": choices.pick(
            "token_noise_prob",
            rules.noise,
            "some inputs are other tokens of the text, so that no context can be memorised"
            if rules.noise
            else "other means hold the model back enough",
        ),
    }


def least_warmup(steps: int) -> float:
    """Share of so many steps that makes a warm-up; 0 of a run too short for one."""
    return WARMUP_STEPS / steps if steps >= LEAST_STEPS else 0.0
