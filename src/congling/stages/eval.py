"""Score a model on held-out text, beside the reference lines of the same text, and measure what it copies.

Reads a run or checkpoint and its shards, remembers the result in the run's ``results.json``::

    congling eval runs/book
    congling eval runs/book/run --shards runs/book/shards --documents runs/book/documents
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from congling.core.errors import UserError
from congling.core.units import plural

if TYPE_CHECKING:
    from congling.evals.copying import CopyReport
    from congling.evals.loss import LossReport
    from congling.evals.rules import RuleReport


@dataclass(frozen=True)
class Evaluation:
    """What was measured."""

    loss: "LossReport"
    lines: dict[str, float]
    """Reference lines in bits per character, by name."""
    copying: "CopyReport | None"
    rules: "RuleReport | None"
    """Only for models of the small world."""


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
    rules = _rules(loaded) if copying and texts is not None and _of_the_small_world(texts) else None
    folder = loaded.checkpoint.path.parent.parent
    own = loaded.checkpoint.parents.get("shards") == opened.artifact.fingerprint  # not some other text's
    if own and (folder / "metrics.jsonl").is_file() and split == "validation" and limit_tokens is None:
        record.add_result(folder, "held_out", loss.to_json())
        if copied is not None:
            record.add_result(folder, "copying", copied.to_json())
        if rules is not None:
            record.add_result(folder, "rules", rules.to_json())
    return Evaluation(loss, lines, copied, rules)


def _copying(
    loaded: Any, shards: Any, documents: Path | str, *, samples: int = 4, tokens: int = 200
) -> "CopyReport":
    """Continue the beginnings of held-out documents, and look for what was written in the training text."""
    from congling.data.corpus import documents as read
    from congling.data.shards import beginnings
    from congling.evals.copying import copy_report

    def training() -> Iterator[str]:
        return (document.text for document in read(documents, "train"))

    split = shards["validation"] if shards["validation"].documents else shards["train"]
    prompts = beginnings(split, loaded.tokenizer, documents=samples, tokens=8)
    return copy_report(_written(loaded, prompts, tokens), training())


def _rules(loaded: Any, *, samples: int = 32, tokens: int = 200) -> "RuleReport":
    """Let the model write documents of the small world from nothing, and judge them by its rules."""
    from congling.evals.rules import rule_report

    return rule_report(_written(loaded, [""] * samples, tokens))


def _written(loaded: Any, prompts: Sequence[str], tokens: int) -> list[str]:
    from congling.infer.generate import generate
    from congling.infer.sampler import SamplingConfig

    sampling = SamplingConfig(temperature=0.8, seed=0)
    return generate(loaded.model, loaded.tokenizer, prompts, max_new_tokens=tokens, sampling=sampling)


def _of_the_small_world(documents: Path | str) -> bool:
    from congling.core import artifact
    from congling.data.config import SMALL_WORLD

    return artifact.opened(documents, "documents").facts["config"]["sources"] == [SMALL_WORLD]


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
    table.caption = (
        f"{loss.tokens:,} {plural(loss.tokens, 'token')}, "
        f"{loss.characters:,} {plural(loss.characters, 'character')}"
    )
    if found.copying is not None:
        table.caption += f"\ncopied from the training text: {found.copying.rate:.1%} of generated text"
    if found.copying is not None and found.copying.longest:
        table.caption += f", longest {found.copying.longest} characters"
    if found.rules is not None:
        shown = ("grammar", "facts", "couplets", "sums")
        values = ((name, getattr(found.rules, name)) for name in shown)
        table.caption += f"\nright by the rules of the small world, in {found.rules.texts} texts: "
        table.caption += ", ".join(f"{name} {value:.1%}" for name, value in values if value is not None)
    return table
