"""Damage of quantisation: what a model in fewer bits lost, with intervals, and which layer lost it.

Reads a run, checkpoint or GGUF file and what was made of it; writes a page where --out names one::

    congling damage runs/book book-q4.gguf
    congling damage runs/book q4 q4-rtn book-q4.gguf --out damage.html
    congling damage runs/book q4 --data held-out.txt --most-kl 0.01

All read the same held-out tokens: those of the shards beside the base, or of --data. The verdict follows from
the upper end of the intervals of KL and loss. With --most-kl the exit status is 1 where a model lost more.
"""

from pathlib import Path
from typing import Annotated

import typer

from congling.core.document import print_document
from congling.core.output import warn
from congling.core.terminal import put
from congling.methods.options import AsJson

TOKENS = 20_480


def command(
    base: Annotated[Path, typer.Argument(metavar="BASE", help="The model before it was quantised.")],
    quantised: Annotated[list[Path], typer.Argument(metavar="QUANTISED…", help="What was made of it.")],
    data: Annotated[
        list[str] | None,
        typer.Option(help="Held-out text, or shards; by default the shards beside BASE. Repeatable."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="A page to write (.html); Markdown beside it, its charts in a folder.")
    ] = None,
    most_kl: Annotated[
        float | None, typer.Option(min=0.0, help="Nats per token; of more KL the exit status is 1.")
    ] = None,
    limit_tokens: Annotated[int, typer.Option(min=256, help="Score about so many tokens.")] = TOKENS,
    context: Annotated[
        int | None, typer.Option(min=2, help="Window in tokens; by default those of training.")
    ] = None,
    layers: Annotated[bool, typer.Option(help="Also quantise one layer at a time.")] = True,
    texts: Annotated[bool, typer.Option(help="Also let the models write.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Of the intervals.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the page that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what quantised models lost against the one they were made from."""
    from congling.core.console import Console
    from congling.methods.damage import Settings, run
    from congling.report import comparison_display, comparison_pages
    from congling.report.damage import as_document
    from congling.report.damage_page import page

    if out is not None:
        comparison_pages.refuse(out, overwrite=overwrite)
    settings = Settings(data or (), limit_tokens, context, layers, texts, seed)
    found = run(base, quantised, settings)
    written = None if out is None else comparison_pages.write(page(found), out)
    if as_json:
        print_document({"page": written, **as_document(found)})
    else:
        comparison_display.show(page(found), Console())
        for one in found.models:
            put(one.line)
        if written is not None:
            put(str(written))
    over = [one.name for one in found.models if most_kl is not None and one.damage.kl.value > most_kl]
    if over:
        warn(f"KL above {most_kl:g} nats per token: {', '.join(over)}")
        raise typer.Exit(1)
