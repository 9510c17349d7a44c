"""Structured pruning: remove the parts of a model that matter least; train it further to recover.

Reads a run or checkpoint, and shards to measure on; writes a checkpoint::

    congling prune runs/book --shards runs/book/shards --num-hidden-layers 4 --out pruned
    congling prune runs/book --num-hidden-layers 4 --score magnitude --out pruned
    congling pretrain shards --tokenizer tokenizer --from pruned --out recovered

Without ``--shards`` parts are scored by the size of their weights, and nobody says what is lost.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from congling.core.document import print_document
from congling.core.terminal import put
from congling.methods.options import AsJson
from congling.transform.prune_sizes import Sizes

Score = Literal["magnitude", "activation"]


def command(
    model: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A run or a checkpoint.")],
    out: Annotated[Path, typer.Option(help="The checkpoint to write.")],
    num_hidden_layers: Annotated[int | None, typer.Option(min=1, help="Blocks that remain.")] = None,
    intermediate_size: Annotated[
        int | None, typer.Option(min=1, help="Hidden channels of an MLP that remain.")
    ] = None,
    num_attention_heads: Annotated[
        int | None, typer.Option(min=1, help="Query heads that remain, whole groups.")
    ] = None,
    hidden_size: Annotated[
        int | None, typer.Option(min=1, help="Channels of the residual stream that remain.")
    ] = None,
    num_experts: Annotated[int | None, typer.Option(min=1, help="Routed experts that remain.")] = None,
    score: Annotated[
        Score | None, typer.Option(help="By default activation where there are shards, else magnitude.")
    ] = None,
    shards: Annotated[Path | None, typer.Option(help="Text to score on, in the model's tokens.")] = None,
    as_json: AsJson = False,
) -> None:
    """Leave out what matters least."""
    from congling.methods import prune

    sizes = Sizes(
        num_hidden_layers=num_hidden_layers,
        intermediate_size=intermediate_size,
        num_attention_heads=num_attention_heads,
        hidden_size=hidden_size,
        num_experts=num_experts,
    )
    found = prune.run(model, out, sizes, score=score, shards=shards)
    if as_json:
        print_document(found)
        return
    before, after = found.before, found.after
    changed = [f"{axis} {before[axis]} → {after[axis]}" for axis in before if before[axis] != after[axis]]
    put(f"pruned: {found.out} ({', '.join(changed)})")
    if found.losses is not None and found.split is not None:
        part = {"validation": "validation split", "train": "training text: nothing is held out"}[found.split]
        print("loss {:.4f} → {:.4f} nats/token ({})".format(*found.losses, part))
    for obstacle in found.obstacles:
        put(f"note: {obstacle}")
    put(f"the report is {found.report}")
    for step in found.steps:
        put(f"  {step.command}")
