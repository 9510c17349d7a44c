"""Show what a run will be and cost before anything is trained: sizes, time, memory, disk, and warnings.

Reads a recipe or texts (tokens are then estimated), or shards; writes nothing::

    congling plan book.txt budget=15m
    congling plan book.txt poems/ model.num_hidden_layers=6 train.max_length=256
    congling plan examples/hlm.toml --shards runs/hlm/shards --json
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from congling.core.document import print_document
from congling.core.errors import UserError
from congling.methods.options import AsJson

if TYPE_CHECKING:
    from congling.plan import corpus_facts
    from congling.plan.planning import Plan
    from congling.plan.recipe import Recipe


def command(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXTS...", help="A recipe (.toml), or text files and folders; and key=value overrides."
        ),
    ] = None,
    shards: Annotated[Path | None, typer.Option(help="A shards directory: exact token counts.")] = None,
    out: Annotated[Path, typer.Option(help="Where the run will be written: its free disk counts.")] = Path(),
    measure: Annotated[bool, typer.Option(help="Time some real steps of the model on this machine.")] = True,
    as_json: AsJson = False,
) -> None:
    """Show the plan of a run: what is chosen and why, what it costs, what to beware of."""
    from congling.core.console import Console
    from congling.plan.recipe import separate
    from congling.plan.show import show

    inputs, overrides = separate(arguments or [])
    found = run(inputs, overrides, shards=shards, out=out, measure=measure)
    if as_json:
        print_document(found)
    else:
        show(found, Console())


def run(
    inputs: Sequence[Path | str],
    overrides: Sequence[str] = (),
    *,
    shards: Path | str | None = None,
    out: Path | str = ".",
    measure: bool = True,
) -> "Plan":
    """Plan a recipe (or texts, or shards alone) for this machine; trains at most a few seconds to
    measure its speed.

    Raises:
        UserError: nothing to plan, or a recipe that contradicts itself.
    """
    from congling.core.config import build, with_overrides
    from congling.data.shards import open_shards
    from congling.plan import corpus_facts, planning, recipe

    if shards is not None and not inputs:
        asked = build(recipe.Recipe, with_overrides({"data": {"sources": [str(shards)]}}, overrides))
    else:
        asked = recipe.read(inputs, overrides)
    corpus = (
        corpus_facts.facts_of_shards(open_shards(shards, verify=True))
        if shards is not None
        else _guess(asked)
    )
    if not measure:
        return planning.make(asked, corpus, corpus_facts.this_machine(out))
    from congling.train import calibrate

    return planning.measured(asked, corpus, out, calibrate.probe, calibrate.measure)


def _guess(recipe: "Recipe") -> "corpus_facts.CorpusFacts":
    """Corpus facts from the texts of a recipe, read once."""
    from congling.data.corpus import prepared
    from congling.data.problems import ReadingLog
    from congling.plan import corpus_facts

    documents = (
        document for document, _ in prepared(recipe.data, ReadingLog(), lambda document, reason: None)
    )
    found = corpus_facts.facts_of_text(
        documents,
        kind=recipe.tokenizer.kind,
        vocab_size=recipe.tokenizer.vocab_size,
        validation=recipe.data.split.validation,
        test=recipe.data.split.test,
    )
    if not found.characters:
        raise UserError("the texts hold no characters to train on", value=list(recipe.data.sources))
    return found
