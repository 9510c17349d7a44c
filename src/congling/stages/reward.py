"""Train a reward model on preference pairs: it gives an answer a number, for ``grpo`` and ``ppo``.

Reads rows with ``chosen`` and ``rejected`` answers, writes a run whose checkpoints have a scalar head::

    congling reward runs/sft --data pairs.jsonl --out runs/judge
    congling reward runs/sft --data pairs.jsonl --data more.jsonl --out runs/judge train.max_steps=300
    congling ppo runs/sft --data prompts.jsonl --reward runs/judge --out runs/ppo

The same command goes on after an interruption.
"""

from pathlib import Path

from congling.methods.options import AsJson, Base, Data, Force, Fresh, Longer, Out, Resume, Settings


def command(
    base: Base,
    settings: Settings = None,
    data: Data = None,
    out: Out = Path("reward"),
    resume: Resume = False,
    longer: Longer = None,
    fresh: Fresh = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Train a reward model on preferences."""
    from congling.core.console import Console
    from congling.methods.recipes import RewardRecipe, read_recipe

    recipe = read_recipe(RewardRecipe, settings or [], data or [])
    from congling.methods import reward_model  # torch loads once what was typed is right
    from congling.methods.ending import show_end

    tuned = reward_model.run(
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
