"""Batch and steps: what a step takes, whether it is compiled, and how many the budget and the text allow."""

import math
from collections.abc import Mapping
from typing import Any

from congling.core.units import show_seconds
from congling.model.config import ModelConfig
from congling.model.counts import flops_per_token
from congling.plan import advice_numbers
from congling.plan.choices import Choices
from congling.plan.corpus_facts import CorpusFacts, MachineFacts

LEAST_STEPS = 20
"""Fewer are never planned, however short the budget."""


def training_seconds(budget: float, *, compiled: bool) -> float:
    """Part of a budget left for training steps."""
    fixed = advice_numbers.STARTUP_SECONDS + (advice_numbers.COMPILE_SECONDS if compiled else 0)
    return max(0.3 * budget, (budget - fixed) * (1 - advice_numbers.OVERHEAD))


def compile_pays(stepping: float, machine: MachineFacts) -> bool:
    """Whether compiling saves more than it costs in a run whose steps take so many seconds in all."""
    kind = "gpu" if machine.accelerator is not None else machine.precision
    return stepping >= advice_numbers.COMPILE_PAYS_FROM[kind]


def tokens_of(train: Mapping[str, Any]) -> int:
    """Tokens of a step."""
    return train["max_length"] * train["per_device_train_batch_size"] * train["gradient_accumulation_steps"]


def most_steps(tokens_per_step: int, corpus: CorpusFacts) -> int:
    """Steps after which more passes over the text only overfit."""
    return max(LEAST_STEPS, math.ceil(_most_passes(corpus) * corpus.tokens / tokens_per_step))


def _most_passes(corpus: CorpusFacts) -> int:
    return (
        advice_numbers.MOST_PASSES_TINY
        if corpus.tokens < advice_numbers.TINY_TOKENS
        else advice_numbers.MOST_PASSES
    )


def batch_of(
    choices: Choices,
    model: ModelConfig,
    context: int,
    corpus: CorpusFacts,
    size: advice_numbers.Size,
    machine: MachineFacts,
    budget: float,
    seconds_per_step: float | None,
) -> dict[str, Any]:
    """What a step takes, and how it is computed."""
    context = int(choices.given.get("max_length", context))
    rows = size.rows * max(1, size.context // context // 2)
    if context > size.context and "max_length" not in choices.given:
        rows = max(1, size.rows * size.context // context)  # as many tokens a step
    most = max(1, corpus.tokens // (8 * context))  # a step should see at most an eighth of the corpus
    rows = max(1, min(rows, 1 << int(most).bit_length() - 1))
    found: dict[str, Any] = {
        "max_length": context,
        "per_device_train_batch_size": choices.pick(
            "per_device_train_batch_size",
            rows,
            "few tokens a step give many updates in a short run"
            if budget <= 3600
            else "larger batches use the machine better over a long run",
        ),
        "gradient_accumulation_steps": choices.pick(
            "gradient_accumulation_steps", 1, "the whole batch fits in memory at once"
        ),
    }
    step = seconds_per_step or _guessed_step(model, found | {"torch_compile": "off"}, machine)
    steps = min(training_seconds(budget, compiled=True) / step, most_steps(tokens_of(found), corpus))
    stepping = int(choices.given.get("max_steps", steps)) * step
    pays = compile_pays(stepping, machine)
    return found | {
        "torch_compile": choices.pick(
            "torch_compile",
            "on" if pays else "off",
            f"makes steps shorter, costs about {advice_numbers.COMPILE_SECONDS:.0f} s at the start: "
            + ("worth it" if pays else "not worth it")
            + f" for {show_seconds(stepping)} of steps",
        ),
        "precision": choices.pick(
            "precision",
            machine.precision,
            "matrix multiplications in bf16, weights in fp32: this machine has units for it"
            if machine.precision == "bf16"
            else "this machine has no units for bf16 matrix multiplications",
        ),
    }


def affordable_steps(
    model: ModelConfig,
    train: Mapping[str, Any],
    machine: MachineFacts,
    room: float,
    seconds_per_step: float | None,
) -> int:
    """Steps that fit into so many seconds of ``room``."""
    step = _guessed_step(model, train, machine) if seconds_per_step is None else seconds_per_step
    return max(LEAST_STEPS, int(room / step))


def _guessed_step(model: ModelConfig, train: Mapping[str, Any], machine: MachineFacts) -> float:
    """Seconds of a step, before any was measured."""
    share = advice_numbers.utilisation(machine, model.hidden_size, compiled=train["torch_compile"] == "on")
    return flops_per_token(model, train["max_length"]) * tokens_of(train) / (share * machine.peak)


def horizon(steps: int, tokens_per_step: int, corpus: CorpusFacts, budget: float) -> tuple[int, str]:
    """Limit the steps by the passes that still teach something."""
    limit = most_steps(tokens_per_step, corpus)
    if limit < steps:
        return (
            limit,
            f"{_most_passes(corpus)} passes over the text; the time of {show_seconds(budget)} would allow "
            "more, but they only overfit",
        )
    return steps, f"what fits into {show_seconds(budget)}"
