"""Turn text files, tables or the embedded small world into clean documents with a held-out part.

::

    congling data inspect book.txt
    congling data make book.txt data.split.validation=8 data.split.order=last --out runs/book/documents
    congling data make smallworld data.smallworld.size=2MB --out runs/world/documents
    congling data rows --kind pairs --count 2000 --seed 1 --out pairs.jsonl
    congling data inspect rows.jsonl --tokenizer runs/book --context 256
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from congling.core.document import print_document
from congling.core.errors import UserError
from congling.methods.options import AsJson

_Sources = Annotated[
    list[str],
    typer.Argument(help="Files, folders or 'smallworld', and settings such as data.split.validation=8."),
]


def make(
    sources: _Sources,
    out: Annotated[Path, typer.Option(help="The documents directory to write.")] = Path("documents"),
    overwrite: Annotated[bool, typer.Option(help="Replace a directory that exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read, clean, deduplicate and split a corpus into a documents directory."""
    from congling.core.console import Console
    from congling.data import corpus, display
    from congling.data.command_line import configured

    made = corpus.make(configured(sources), out, overwrite=overwrite)
    if as_json:
        print_document({"out": made.path, **corpus.summary(made.path)})
        return
    console = Console()
    display.show_result(corpus.summary(made.path), console)
    display.say(console, f"wrote {made.path}")


def inspect(
    sources: _Sources,
    tokenizer: Annotated[
        Path | None, typer.Option(help="A tokenizer, run or checkpoint: show rows with their loss mask.")
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(help="Chat template: chatml, qwen, llama2, llama3, chatglm, none, a .jinja file."),
    ] = None,
    context: Annotated[int | None, typer.Option(help="Most tokens of a row.", min=8)] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a corpus holds and how it would be read, without writing anything."""
    from congling.core.console import Console
    from congling.data import display, looking
    from congling.data.command_line import configured
    from congling.tokenizer import store
    from congling.tokenizer.chat import templates

    config = configured(sources)
    if tokenizer is None:
        if template is not None or context is not None:
            raise UserError("--template and --context need a tokenizer", hint="add --tokenizer DIR")
        look = looking.look(config)
        if as_json:
            print_document(look)
        else:
            display.show_look(look, Console())
        return
    opened = store.load(store.locate(tokenizer))
    if template is not None:
        opened = templates.with_template(opened, templates.read(template))
    found = looking.inspected(config, opened, context)
    if as_json:
        print_document({"rows": found.rows, "refused": [str(error) for error in found.refused]})
    else:
        display.show_inspected(found, Console())


def rows(
    out: Annotated[Path, typer.Option(help="The JSON lines file to write.")] = Path("rows.jsonl"),
    kind: Annotated[str, typer.Option(help="instructions, pairs or prompts.")] = "instructions",
    count: Annotated[str, typer.Option(help="How many rows, such as 2000 or 50k.")] = "2000",
    seed: Annotated[int, typer.Option(help="Another seed gives other rows.")] = 0,
    script: Annotated[str, typer.Option(help="hans or hant.")] = "hans",
    mix: Annotated[str, typer.Option(help="Shares by kind: questions=1,arithmetic=2,couplets=1.")] = "",
    paraphrases: Annotated[str, typer.Option(help="seen, unseen (held out of seen) or all.")] = "seen",
    split: Annotated[str, typer.Option(help="seen, unseen (in no seen row of any seed) or all.")] = "seen",
    questions_per_story: Annotated[int, typer.Option(help="Questions about one story, in instructions.")] = 1,
    overwrite: Annotated[bool, typer.Option(help="Replace a file that exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make rows to tune on from the small world: instructions, preference pairs, or prompts to be judged."""
    from congling.core.console import Console
    from congling.core.units import plural, show_bytes
    from congling.data import display
    from congling.data.command_line import rows_configured
    from congling.data.smallworld import rows as small_rows

    values = {"kind": kind, "count": count, "seed": seed, "script": script, "mix": mix}
    chosen = {"split": split, "paraphrases": paraphrases, "questions_per_story": questions_per_story}
    config = rows_configured(values | chosen)
    size = small_rows.write(config, out, overwrite=overwrite)
    if as_json:
        print_document({"out": out, "rows": config.count, "kind": kind, "bytes": size})
        return
    made = f"{config.count:,} {plural(config.count, 'row')} of {kind} ({show_bytes(size)})"
    display.say(Console(), f"wrote {made} to {out}")


commands: dict[str, Callable[..., None]] = {"make": make, "inspect": inspect, "rows": rows}
