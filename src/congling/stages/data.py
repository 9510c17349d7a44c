"""Turn text files, tables or the embedded small world into clean documents with a held-out part.

::

    congling data inspect book.txt
    congling data make book.txt data.split.validation=8 data.split.order=last --out runs/book/documents
    congling data make smallworld data.smallworld.size=2MB --out runs/world/documents
    congling data rows --kind pairs --count 2000 --seed 1 --out pairs.jsonl
    congling data inspect rows.jsonl --tokenizer runs/book --context 256
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from congling.core.document import print_document
from congling.core.errors import UserError
from congling.methods.options import AsJson

if TYPE_CHECKING:  # what reads and counts loads only when something is read
    from congling.core.artifact import Artifact
    from congling.core.console import Console
    from congling.data.config import DataConfig
    from congling.data.inspection import Inspection
    from congling.data.smallworld.rows import RowsConfig
    from congling.data.tuning.row_inspection import RowInspection

FILES = 12  # files listed one by one
EXCERPT = 60  # characters

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
    from congling.data import corpus

    made = run(configured(sources), out, overwrite=overwrite)
    if as_json:
        print_document({"out": made.path, **corpus.summary(made.path)})
        return
    console = Console()
    show_result(corpus.summary(made.path), console)
    say(console, f"wrote {made.path}")


def inspect(
    sources: _Sources,
    tokenizer: Annotated[
        Path | None, typer.Option(help="A tokenizer, run or checkpoint: show rows as they would be learnt.")
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

    config = configured(sources)
    if tokenizer is None and (template is not None or context is not None):
        raise UserError("--template and --context need a tokenizer", hint="add --tokenizer DIR")
    opened = None if tokenizer is None else _tokenizer(tokenizer, template)
    if as_json:
        print_document(_looked_at(config) if opened is None else _as_learnt(config, opened, context))
    elif opened is None:
        _show_looked_at(config, Console())
    else:
        _show_as_learnt(config, opened, context, Console())


def _show_looked_at(config: "DataConfig", console: "Console") -> None:
    """Print what an inspection without a tokenizer finds.

    Raises:
        UserError: there is neither a text nor a row.
    """
    from congling.data import inspection
    from congling.data.tuning import row_display, row_inspection, row_kinds

    looks = [look for part in row_kinds.by_sort(config) if (look := row_inspection.look(part))]
    try:
        show(inspection.inspect(config), console)
    except UserError:
        if not any(look.first for look in looks):
            raise
        for look in looks:
            show_files(look.findings.as_json(), console)  # rows that are no texts to learn from whole
    for look in looks:
        row_display.show_roles(look, console)
    row_display.show_sorts([look.sort for look in looks], console)


def _show_as_learnt(config: "DataConfig", tokenizer: Any, context: int | None, console: "Console") -> None:
    """Print rows as they would be learnt, sort by sort; why others cannot be is said behind them.

    Raises:
        UserError: none can.
    """
    from congling.data.tuning import row_display

    rows, refused = _learnt(config, tokenizer, context)
    for found in rows:
        show_files(found.findings.as_json(), console)
        row_display.show(found, console)
    row_display.show_sorts([found.sort for found in rows], console)
    for error in refused:  # files of another sort are to be seen all the same
        say(console, f"\n{error}", "yellow")


def _looked_at(config: "DataConfig") -> dict[str, Any]:
    """Everything that an inspection without a tokenizer finds: texts to learn from whole, and rows.

    Raises:
        UserError: there is neither.
    """
    from congling.data import inspection
    from congling.data.tuning import row_inspection, row_kinds

    looks = [look for part in row_kinds.by_sort(config) if (look := row_inspection.look(part))]
    try:
        texts = inspection.inspect(config)
    except UserError:
        if not any(look.first for look in looks):
            raise
        texts = None
    return {"texts": texts, "rows": looks}


def _as_learnt(config: "DataConfig", tokenizer: Any, context: int | None) -> dict[str, Any]:
    """Rows as they would be learnt, and why others cannot be."""
    rows, refused = _learnt(config, tokenizer, context)
    return {"rows": rows, "refused": [str(error) for error in refused]}


def _learnt(
    config: "DataConfig", tokenizer: Any, context: int | None
) -> tuple[list["RowInspection"], list[UserError]]:
    """Rows of each sort as they would be learnt, and the errors of those that cannot be.

    Raises:
        UserError: none can.
    """
    from congling.data.tuning import row_inspection, row_kinds

    rows: list[RowInspection] = []
    refused: list[UserError] = []
    for part in row_kinds.by_sort(config):
        try:
            rows.append(row_inspection.inspect(part, tokenizer, context))
        except UserError as error:
            refused.append(error)
    if not rows:
        raise refused[0]
    return rows, refused


def _tokenizer(path: Path, template: str | None) -> Any:
    from congling.tokenizer import store
    from congling.tokenizer.chat.templates import with_template

    opened = store.load(store.locate(path))
    return opened if template is None else with_template(opened, _template(template))


def _template(name: str) -> str:
    """A template's name or source; that of a file which ends in ``.jinja``."""
    if not name.endswith(".jinja"):
        return name
    try:
        from congling.core import files

        return files.text(name)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UserError(f"the chat template cannot be read ({reason})", value=name) from None


def rows(
    out: Annotated[Path, typer.Option(help="The JSON lines file to write.")] = Path("rows.jsonl"),
    kind: Annotated[str, typer.Option(help="instructions, pairs or prompts.")] = "instructions",
    count: Annotated[str, typer.Option(help="How many rows, such as 2000 or 50k.")] = "2000",
    seed: Annotated[int, typer.Option(help="Another seed gives other rows.")] = 0,
    script: Annotated[str, typer.Option(help="hans or hant.")] = "hans",
    mix: Annotated[str, typer.Option(help="Shares by kind: questions=1,arithmetic=2,couplets=1.")] = "",
    wordings: Annotated[str, typer.Option(help="seen, unseen (held out of seen) or all.")] = "seen",
    contents: Annotated[str, typer.Option(help="seen, unseen (in no seen row of any seed) or all.")] = "seen",
    turns: Annotated[int, typer.Option(help="Questions about one story, in instructions.")] = 1,
    overwrite: Annotated[bool, typer.Option(help="Replace a file that exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make rows to tune on from the small world: instructions, preference pairs, or prompts to be judged."""
    from congling.core.console import Console
    from congling.core.units import plural, show_bytes
    from congling.data.smallworld import rows as small_rows

    values = {"kind": kind, "count": count, "seed": seed, "script": script, "mix": mix}
    config = rows_configured(values | {"wordings": wordings, "contents": contents, "turns": turns})
    size = small_rows.write(config, out, overwrite=overwrite)
    if as_json:
        print_document({"out": out, "rows": config.count, "kind": kind, "bytes": size})
        return
    say(
        Console(),
        f"wrote {config.count:,} {plural(config.count, 'row')} of {kind} ({show_bytes(size)}) to {out}",
    )


def rows_configured(options: Mapping[str, Any]) -> "RowsConfig":
    """The options of ``rows`` as they stand on a command line; ``mix`` is one text, the defaults where empty.

    Raises:
        UserError: a wrong value.
    """
    from congling.core.config import build
    from congling.data.smallworld.rows import RowsConfig

    values = {key: value for key, value in options.items() if key in RowsConfig.model_fields}
    mix = values.pop("mix", "")
    return build(RowsConfig, values | ({"mix": _shares(mix)} if mix else {}), where="data rows")


def _shares(text: str) -> dict[str, Any]:
    """``questions=1,arithmetic=2`` as a mapping; its values are checked with the rest."""
    from congling.core.config import toml_value

    parts = [part.partition("=") for part in text.split(",")]
    if not all(name.strip() and sign for name, sign, _ in parts):
        raise UserError(
            "a mix names kinds and their shares", value=text, hint="such as questions=1,arithmetic=2"
        )
    return {name.strip(): toml_value(share.strip()) for name, _, share in parts}


commands: dict[str, Callable[..., None]] = {"make": make, "inspect": inspect, "rows": rows}


def run(config: "DataConfig", out: Path | str, *, overwrite: bool = False) -> "Artifact":
    """Make a documents directory; see :func:`congling.data.corpus.make`.

    Raises:
        UserError: a source cannot be read, or holds no text; or ``out`` exists and is not to be replaced.
    """
    from congling.data import corpus

    return corpus.make(config, out, overwrite=overwrite)


def configured(arguments: Sequence[str]) -> "DataConfig":
    """Sources and ``data.…=…`` settings, as they stand on a command line.

    Raises:
        UserError: an unknown setting, or a wrong value.
    """
    from congling.core.config import build, with_overrides
    from congling.core.text import readable
    from congling.core.words import joined_words
    from congling.data.config import DataConfig

    words = joined_words(arguments)
    settings = [text for text in words if text.startswith("data.") and "=" in text]
    sources = [readable(text) for text in words if text not in settings]
    values = with_overrides({"data": {"sources": sources}}, settings)["data"]
    if not values["sources"]:
        raise UserError("no source is given", hint="name files or folders, or 'smallworld'")
    return build(DataConfig, values, where="data settings", under="data")


def show(found: "Inspection", console: "Console") -> None:
    """Print an inspection for a person."""
    from congling.core.units import plural

    show_files(found.summary, console)
    show_result(found.summary, console)
    say(console, "first documents:")
    for document in found.first:
        length = f"{len(document.text):,} {plural(len(document.text), 'character')}"
        say(console, f"  {document.id} ({length})  {_excerpt(document.text)}")
    show_problems(found, console)


def show_files(summary: dict[str, Any], console: "Console") -> None:
    """Print for every file: size, encoding, what became a document, and why."""
    from congling.core.units import plural, show_bytes

    notes = summary["files"]
    for note in notes[:FILES]:
        encoding = f", {note['encoding']} ({note['encoding_why']})" if note["encoding"] else ""
        say(console, f"{note['file']}: {show_bytes(note['bytes'])} {note['format']}{encoding}")
        if note["choice"]:
            documents = f"{note['documents']:,} {plural(note['documents'], 'document')}"
            say(console, f"  {documents} by {note['choice']}: {note['why']}")
    beyond = len(notes) - FILES + summary["files_beyond"]
    if beyond > 0:
        say(console, f"… and {beyond:,} more files")
    console.print()


def say(console: "Console", text: str, style: str = "") -> None:
    """Print one plain line: no markup in file names or data, no colouring, no breaking at the window."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def show_result(summary: dict[str, Any], console: "Console") -> None:
    """Print the counts of all splits, the reference lines, what was dropped, and every note."""
    from rich.table import Table

    from congling.core.units import show_bytes
    from congling.data import corpus

    headings = ("split", "documents", "characters", "bytes", "distinct", "median", "longest", "script")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("split", "script") else "right", no_wrap=True)
    for name, split in summary["splits"].items():
        keys = ("distinct_characters", "median_characters", "longest_characters")
        counts = (f"{split['documents']:,}", f"{split['characters']:,}", show_bytes(split["bytes"]))
        table.add_row(name, *counts, *(f"{split[key]:,}" for key in keys), split["script"]["guess"])
    console.print(table)
    for split, key in corpus.LINES.items():
        if not (lines := summary.get(key)):
            continue
        values = ", ".join(f"{name} {lines[name]:.2f}" for name in ("uniform", "unigram", "bigram"))
        floor = summary.get("entropy_floor")
        known = f", the generator's own entropy {floor['bits_per_character']:.2f}" if floor else ""
        say(console, f"bits/character of the {split} text: {values}{known}")
    for reason, count in summary["dropped"].items():
        say(console, f"dropped {count:,}: {reason}")
    counts = summary["problems"]["counts"]
    if counts:
        listed = ", ".join(f"{kind} {count:,}" for kind, count in counts.items())
        say(console, f"skipped or repaired: {listed}", "yellow")
    for note in summary["notes"]:
        say(console, f"note: {note}", "yellow")
    console.print()


def show_problems(found: "Inspection", console: "Console") -> None:
    """Print the first problems with their places, and the first documents left out."""
    problems = found.summary["problems"]
    if problems["examples"]:
        say(console, "\nproblems:")
    for problem in problems["examples"]:
        place = problem["file"] + (f":{problem['line']}" if problem["line"] else "")
        say(console, f"  {place}  {problem['kind']}: {problem['reason']}")
    beyond = sum(problems["counts"].values()) - len(problems["examples"])
    if beyond > 0:
        say(console, f"  … and {beyond:,} more (`congling data make` lists all in problems.jsonl)")
    if found.dropped:
        say(console, "\nfirst documents left out:")
    for row in found.dropped:
        say(console, f"  {row['id']}  {row['reason']}: {_excerpt(str(row['text']))}")


def _excerpt(text: str) -> str:
    line = " ".join(text[: 2 * EXCERPT].split())
    return line if len(text) <= EXCERPT else line[:EXCERPT] + "…"
