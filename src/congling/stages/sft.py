"""Supervised fine-tuning on rows of questions and answers, or on texts: a LoRA adapter, or all weights.

Only answers are learnt; of plain texts, every token. A GGUF base stays packed, and takes an adapter::

    congling sft base.gguf --data rows.jsonl --out runs/poet adapter.r=8
    congling sft runs/book --data rows.jsonl --data poems.txt --out runs/poet train.max_steps=300
    congling sft runs/book examples/lora.toml --data rows.jsonl --out runs/poet
    congling sft runs/book --data rows.jsonl --out runs/poet template=llama3 neftune_noise_alpha=5

The same command goes on after an interruption, and with ``--longer 300steps`` beyond its end.
"""

from pathlib import Path
from typing import Annotated

import typer

from congling.methods.options import AsJson, Base, Force, Fresh, Longer, Out, Resume, Settings


def command(
    base: Base,
    settings: Settings = None,
    data: Annotated[list[str] | None, typer.Option(help="Rows (JSON, CSV …) or texts; repeatable.")] = None,
    out: Out = Path("sft"),
    resume: Resume = False,
    longer: Longer = None,
    fresh: Fresh = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Train a model on questions and answers."""
    from congling.core.console import Console
    from congling.methods.recipes import SFTRecipe, read_recipe

    recipe = read_recipe(SFTRecipe, settings or [], data or [])
    from congling.methods import sft  # torch loads once what was typed is right
    from congling.methods.ending import show_end

    tuned = sft.run(
        base,
        recipe,
        out,
        console=Console(),
        must_resume=resume,
        longer=longer,
        fresh=fresh,
        force=force,
    )
    show_end(tuned, unit="nats/token", as_json=as_json)
