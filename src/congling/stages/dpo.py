"""Train on preferences: DPO, IPO, ORPO and SimPO on pairs of answers, KTO on good and bad ones.

Reads rows with ``chosen`` and ``rejected`` answers (for ``kto`` also a ``label``), writes a run::

    congling dpo runs/sft --data pairs.jsonl --out runs/dpo
    congling dpo runs/sft --data pairs.jsonl --out runs/dpo preference.loss_type=simpo adapter.r=16
    congling dpo runs/sft --data rated.jsonl --out runs/kto preference.loss_type=kto

The same command goes on after an interruption.
"""

from pathlib import Path

from congling.methods.options import AsJson, Base, Data, Force, Fresh, Longer, Out, Resume, Settings


def command(
    base: Base,
    settings: Settings = None,
    data: Data = None,
    out: Out = Path("dpo"),
    resume: Resume = False,
    longer: Longer = None,
    fresh: Fresh = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Train a model on preferences."""
    from congling.core.console import Console
    from congling.methods.recipes import PreferenceRecipe, read_recipe

    recipe = read_recipe(PreferenceRecipe, settings or [], data or [])
    from congling.methods import preferences  # torch loads once what was typed is right
    from congling.methods.ending import show_end

    tuned = preferences.run(
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
