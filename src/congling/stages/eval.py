"""Score a model on held-out text, beside the reference lines of the same text, and measure what it copies.

Reads a run or checkpoint and its shards, remembers the result in the run's ``results.json``::

    congling eval runs/book
    congling eval runs/book/run --shards runs/book/shards --documents runs/book/documents
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from congling.core.errors import UserError

if TYPE_CHECKING:
    from congling.evals.copying import CopyReport
    from congling.evals.loss import LossReport


@dataclass(frozen=True)
class Evaluation:
    """What was measured."""

    loss: "LossReport"
    lines: dict[str, float]
    """Reference lines in bits per character, by name."""
    copying: "CopyReport | None"


def command(
    model: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run, a checkpoint, or what `congling train` wrote.")
    ],
    shards: Annotated[
        Path | None, typer.Option(help="Shards to score on; by default those beside the run.")
    ] = None,
    documents: Annotated[
        Path | None, typer.Option(help="Documents, to measure copying; by default beside the run.")
    ] = None,
    split: Annotated[str, typer.Option(help="validation or train.")] = "validation",
    context: Annotated[
        int | None, typer.Option(help="Window in tokens; by default the model's context.")
    ] = None,
    limit_tokens: Annotated[int | None, typer.Option(help="Score only so many tokens.")] = None,
    copying: Annotated[
        bool, typer.Option(help="Also generate text and measure how much of it is copied.")
    ] = True,
) -> None:
    """Score a model on held-out text."""
    from rich.console import Console

    found = run(
        model,
        shards,
        documents=documents,
        split=split,
        context=context,
        limit_tokens=limit_tokens,
        copying=copying,
    )
    Console().print(table(found, split))


def run(
    model: Path | str,
    shards: Path | str | None = None,
    *,
    documents: Path | str | None = None,
    split: str = "validation",
    context: int | None = None,
    limit_tokens: int | None = None,
    copying: bool = True,
) -> Evaluation:
    """Score one split; a whole validation split of a run is remembered in its ``results.json``.

    ``shards`` and ``documents`` are looked for beside the run when not given. Without documents copying is
    not measured.

    Raises:
        UserError: no model or no shards, or they do not belong together.
    """
    from congling.data.shards import SPLITS, open_shards
    from congling.evals.loss import evaluate
    from congling.infer.checkpoints import load_checkpoint
    from congling.plan import record
    from congling.plan.facts import reference_lines

    if split not in SPLITS:
        raise UserError("unknown split", value=split, hint=f"one of {', '.join(SPLITS)}")
    loaded = load_checkpoint(model)
    place = shards if shards is not None else _beside(loaded.checkpoint.path, "shards")
    if place is None:
        raise UserError("no shards beside the run", value=str(model), hint="name them with --shards")
    opened = open_shards(place, tokenizer=loaded.tokenizer)
    loss = evaluate(loaded.model, opened[split], context=context, limit_tokens=limit_tokens)
    lines = reference_lines(opened.summary) if split == "validation" else {}
    texts = documents if documents is not None else _beside(loaded.checkpoint.path, "documents")
    copied = _copying(loaded, opened, texts) if copying and texts is not None else None
    folder = loaded.checkpoint.path.parent.parent
    if (folder / "metrics.jsonl").is_file() and split == "validation" and limit_tokens is None:
        record.add_result(folder, "held_out", loss.to_json())
        if copied is not None:
            record.add_result(folder, "copying", copied.to_json())
    return Evaluation(loss, lines, copied)


def _copying(
    loaded: Any, shards: Any, documents: Path | str, *, samples: int = 4, tokens: int = 200
) -> "CopyReport":
    """Continue the beginnings of held-out documents, and look for what was written in the training text."""
    from congling.data.corpus import documents as read
    from congling.evals.copying import copy_report
    from congling.infer.generate import generate
    from congling.infer.sampler import SamplingConfig

    def training() -> Iterator[str]:
        return (document.text for document in read(documents, "train"))

    split = shards["validation"] if shards["validation"].documents else shards["train"]
    prompts = [
        loaded.tokenizer.decode(split.document(i)[:8].tolist()) for i in range(min(samples, split.documents))
    ]
    texts = generate(
        loaded.model,
        loaded.tokenizer,
        prompts,
        max_new_tokens=tokens,
        sampling=SamplingConfig(temperature=0.8, seed=0),
    )
    return copy_report(texts, training())


def _beside(checkpoint: Path, name: str) -> Path | None:
    """The directory ``name`` that stands beside the run a checkpoint belongs to."""
    from congling.core import artifact

    run_directory = checkpoint.parent.parent
    places = (run_directory / name, run_directory.parent / name)
    return next((place for place in places if artifact.exists(place)), None)


def table(found: Evaluation, split: str) -> Any:
    """The loss beside the reference lines, as a table for the terminal."""
    from rich.table import Table

    table = Table(
        "model", "bits/character", "bits/byte", "nats/token", "perplexity", title=f"loss on {split} text"
    )
    for name, value in found.lines.items():
        table.add_row(f"{name} (reference)", f"{value:.3f}", "", "", "", style="dim")
    loss = found.loss
    table.add_row(
        "this model",
        f"{loss.bits_per_character:.3f}",
        f"{loss.bits_per_byte:.3f}",
        f"{loss.nats_per_token:.4f}",
        f"{loss.perplexity:,.1f}",
        style="bold",
    )
    table.caption = f"{loss.tokens:,} tokens, {loss.characters:,} characters"
    if found.copying is not None:
        table.caption += f"\ncopied from the training text: {found.copying.rate:.1%} of generated text"
    if found.copying is not None and found.copying.longest:
        table.caption += f", longest {found.copying.longest} characters"
    return table
