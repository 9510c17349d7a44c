"""A step in smaller parts, where it would not fit into memory at once."""

from dataclasses import replace

from congling.plan.advise import Advice
from congling.plan.corpus_facts import CorpusFacts, MachineFacts
from congling.plan.cost import estimate
from congling.plan.recipe import Recipe


def fitted(advice: Advice, recipe: Recipe, corpus: CorpusFacts, machine: MachineFacts) -> Advice:
    """Make the step fit into four fifths of the memory where the recipe leaves rows and accumulation open."""
    train, changed = advice.train, False
    if {"per_device_train_batch_size", "gradient_accumulation_steps"} & recipe.train.keys():
        return advice
    while (
        train.per_device_train_batch_size > 1
        and estimate(advice.model, train, corpus, machine).peak_memory > 0.8 * machine.memory
    ):
        train, changed = (
            train.replace(
                per_device_train_batch_size=train.per_device_train_batch_size // 2,
                gradient_accumulation_steps=train.gradient_accumulation_steps * 2,
            ),
            True,
        )
    if not changed:
        return advice
    why = {
        "per_device_train_batch_size": "what fits into memory at once",
        "gradient_accumulation_steps": "the same step in several parts, to fit into memory",
    }
    values = {
        "per_device_train_batch_size": train.per_device_train_batch_size,
        "gradient_accumulation_steps": train.gradient_accumulation_steps,
    }
    choices = tuple(
        replace(one, value=str(values[one.key]), why=why[one.key]) if one.key in why else one
        for one in advice.choices
    )
    return replace(advice, train=train, choices=choices)
