"""Sample several answers to each prompt, and keep the best and the worst as a preference pair.

Reads prompts and rewards (as ``grpo`` does), writes rows with ``chosen`` and ``rejected`` for ``dpo``::

    congling pairs runs/sft --data prompts.jsonl --reward exact --out pairs.jsonl
    congling pairs runs/sft --data prompts.jsonl --reward rules.py:short --answers 16 --out pairs.jsonl
    congling dpo runs/sft --data pairs.jsonl --out runs/dpo

Prompts whose answers all earn the same teach nothing and are left out.
"""

from pathlib import Path
from typing import Annotated

import typer

from congling.core.document import print_document
from congling.core.units import plural
from congling.methods.options import AsJson, RewardNames


def command(
    model: Annotated[Path, typer.Argument(help="A run, a checkpoint, or a GGUF file.")],
    data: Annotated[list[str], typer.Option(help="Prompts; repeatable.")],
    reward: RewardNames = None,
    out: Annotated[Path, typer.Option(help="The file of pairs to write.")] = Path("pairs.jsonl"),
    answers: Annotated[int, typer.Option(min=2, help="Answers to each prompt.")] = 8,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 128,
    temperature: Annotated[float, typer.Option(min=0.01, help="Of sampling.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal answers.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace a file that exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make preference pairs of a model's own answers."""
    from congling.core.console import Console
    from congling.methods import pairs

    console = Console()
    kept, asked = pairs.run(
        model,
        data,
        reward or (),
        out,
        answers=answers,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        overwrite=overwrite,
        console=console,
    )
    if as_json:
        print_document({"out": out, "pairs": kept, "prompts": asked})
        return
    wrote = f"wrote {kept:,} {plural(kept, 'pair')} from {asked:,} {plural(asked, 'prompt')} to {out}"
    console.print(wrote, markup=False, highlight=False, soft_wrap=True)
