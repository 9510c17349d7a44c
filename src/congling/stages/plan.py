"""Show what a run will be and cost before anything is trained: sizes, time, memory, disk, and warnings.

Reads a recipe or texts (tokens are then estimated), or shards; of a run or checkpoint it shows what putting
it in fewer bits will take and give. Writes nothing::

    congling plan book.txt budget=15m
    congling plan book.txt poems/ model.num_hidden_layers=6 train.max_length=256
    congling plan examples/hlm.toml --shards runs/hlm/shards --json
    congling plan runs/book method=gptq bits=4 group_size=32
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from congling.core.document import print_document
from congling.core.errors import UserError
from congling.core.terminal import put
from congling.methods.options import AsJson

if TYPE_CHECKING:
    from congling.plan import corpus_facts
    from congling.plan.planning import Plan
    from congling.plan.recipe import Recipe


def command(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXTS...",
            help="A recipe (.toml), text files and folders, or a run to quantise; and key=value overrides.",
        ),
    ] = None,
    shards: Annotated[Path | None, typer.Option(help="A shards directory: exact token counts.")] = None,
    out: Annotated[Path, typer.Option(help="Where the run will be written: its free disk counts.")] = Path(),
    measure: Annotated[bool, typer.Option(help="Time some real steps of the model on this machine.")] = True,
    as_json: AsJson = False,
) -> None:
    """Show the plan of a run: what is chosen and why, what it costs, what to beware of."""
    from congling.core.console import Console
    from congling.core.pointers import leads_to_checkpoint
    from congling.plan.recipe import separate
    from congling.plan.show import show

    inputs, overrides = separate(arguments or [])
    if shards is None and len(inputs) == 1 and leads_to_checkpoint(inputs[0]):
        _quantisation(inputs[0], overrides, measure=measure, as_json=as_json)
        return
    found = run(inputs, overrides, shards=shards, out=out, measure=measure)
    if as_json:
        print_document(found)
    else:
        show(found, Console())


def _quantisation(model: Path, settings: Sequence[str], *, measure: bool, as_json: bool) -> None:
    """Plan putting a trained model in fewer bits."""
    from dataclasses import asdict

    from congling.methods import quantize
    from congling.plan.quantised_formats import sorted_out

    methods = [one.partition("=")[2] for one in settings if one.startswith("method=")]
    rest = [one for one in settings if not one.startswith("method=")]
    config = quantize.chosen(methods[-1] if methods else "gptq", rest)
    plan, formats = quantize.plan(model, config, measure=measure)
    if as_json:
        print_document({**asdict(plan), "formats": formats})
        return
    held, lacking = sorted_out(formats)
    groups = ", ".join(map(str, plan.groups))
    put("\n".join([*plan.lines(), f"group sizes that divide all layers: {groups} (-1: the whole row)"]))
    put("\n".join([f"held as it is by: {held}", *lacking]))


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
