"""Set runs side by side: losses, scores with intervals, differences, curves, and what each writes.

Reads run directories; writes a page where --out names one::

    congling compare runs/base runs/sft --prompt 小猫是什么颜色？
    congling compare runs/small runs/large --out compare.html
    congling compare runs/sft runs/dpo --rows held-out.jsonl --out compare.html

The first run is the one the others are compared with.
"""

from pathlib import Path
from typing import Annotated

import typer

from congling.core.document import print_document
from congling.core.terminal import put
from congling.methods.options import AsJson


def command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN…", help="Runs, the first to compare with.")],
    out: Annotated[
        Path | None, typer.Option(help="A page to write (.html); Markdown beside it, its charts in a folder.")
    ] = None,
    rows: Annotated[
        list[str] | None, typer.Option(help="Questions with answers that every run is scored on; repeatable.")
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option("--prompt", "-p", help="What every run is to answer; repeatable.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows scored at most.")] = 200,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", "-n", min=1, help="Longest text, in tokens.")
    ] = 100,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 = always the likeliest token.")] = 0.7,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal texts.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the page that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Set runs side by side: losses, scores, differences, curves, texts."""
    from congling.core.console import Console
    from congling.methods.comparison import Writing, run
    from congling.report import comparison_display, comparison_pages

    if out is not None:
        comparison_pages.refuse(out, overwrite=overwrite)
    writing = Writing(prompt or (), max_new_tokens, temperature, seed)
    found = run(runs, rows=rows or (), limit=limit, writing=writing)
    page = None if out is None else comparison_pages.write(found, out)
    if as_json:
        from congling.report.comparison_document import as_document

        print_document({"page": page, **as_document(found)})
        return
    comparison_display.show(found, Console())
    if page is not None:
        put(str(page))
