"""Reinforcement learning by PPO: answers are rewarded and compared with what a value head predicts.

Reads prompts, and rewards (a reward model, a rule, a Python function)::

    congling ppo runs/sft --data prompts.jsonl --reward runs/judge --out runs/ppo
    congling ppo runs/sft --data prompts.jsonl --reward runs/judge --reward rules.py:short=0.1 --out runs/ppo

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
    out: Out = Path("ppo"),
    resume: Resume = False,
    longer: Longer = None,
    fresh: Fresh = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Train a model on rewards, with a value head."""
    from congling.core.console import Console
    from congling.methods.recipes import PPORecipe, read_recipe

    recipe = read_recipe(PPORecipe, settings or [], data or [], reward or [])
    from congling.methods import ppo  # torch loads once what was typed is right
    from congling.methods.ending import show_end

    tuned = ppo.run(
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
