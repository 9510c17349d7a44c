"""Reinforcement learning by GRPO: many answers to each prompt, each rewarded and compared with the others.

Reads prompts with answers that can be checked, and rewards (a rule, a Python function, a reward model)::

    congling grpo runs/sft --data prompts.jsonl --reward exact --out grpo rollout.max_completion_length=16
    congling grpo runs/sft --data prompts.jsonl --reward rules.py:short --out grpo grpo.loss_type=dr_grpo

The same command goes on after an interruption.
"""

from pathlib import Path

from congling.methods.options import (
    AsJson,
    Base,
    Data,
    Force,
    Fresh,
    Longer,
    Out,
    Resume,
    RewardNames,
    Settings,
)


def command(
    base: Base,
    settings: Settings = None,
    data: Data = None,
    reward: RewardNames = None,
    out: Out = Path("grpo"),
    resume: Resume = False,
    longer: Longer = None,
    fresh: Fresh = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Train a model on rewards, answers compared with each other."""
    from congling.core.console import Console
    from congling.methods.recipes import GRPORecipe, read_recipe

    recipe = read_recipe(GRPORecipe, settings or [], data or [], reward or [])
    from congling.methods import grpo  # torch loads once what was typed is right
    from congling.methods.ending import show_end

    tuned = grpo.run(
        base,
        recipe,
        out,
        console=Console(),
        must_resume=resume,
        longer=longer,
        fresh=fresh,
        force=force,
    )
    show_end(tuned, as_json=as_json)
