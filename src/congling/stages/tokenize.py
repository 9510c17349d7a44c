"""Turn documents into token files that training reads straight from the disk.

Reads a documents directory and a tokenizer directory, writes a shards directory::

    congling tokenize runs/book/documents runs/book/tokenizer --out runs/book/shards
    congling tokenize runs/book/documents runs/base/tokenizer --out runs/book/shards --overwrite
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from congling.core.document import print_document
from congling.methods.options import AsJson

if TYPE_CHECKING:  # what encodes loads only when something is encoded
    from congling.core.console import Console
    from congling.data.shards import Shards


def command(
    documents: Annotated[Path, typer.Argument(help="A documents directory.")],
    tokenizer: Annotated[Path, typer.Argument(help="A tokenizer directory.")],
    out: Annotated[Path, typer.Option(help="The shards directory to write.")] = Path("shards"),
    overwrite: Annotated[bool, typer.Option(help="Replace a directory that exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Encode documents once, into token files."""
    from congling.core.console import Console

    found = run(documents, tokenizer, out, overwrite=overwrite)
    if as_json:
        print_document({"out": out, "splits": _counts(found)})
        return
    show(found, Console())


def run(
    documents: Path | str, tokenizer: Path | str, out: Path | str, *, overwrite: bool = False
) -> "Shards":
    """Encode every document of both splits; returns the opened shards.

    Raises:
        UserError: an input is missing or damaged, there is no training text, or ``out`` exists.
    """
    from congling.data import shards
    from congling.tokenizer import store

    shards.write(documents, tokenizer, out, overwrite=overwrite)
    return shards.open_shards(out, tokenizer=store.load(tokenizer))


def _counts(found: "Shards") -> dict[str, dict[str, Any]]:
    """Sizes of each split; characters a token without the ends of texts, which stand for no characters."""
    counts = {}
    for name, split in found.splits.items():
        characters, tokens = int(split.characters.sum()), len(split.tokens)
        counts[name] = {
            "documents": split.documents,
            "tokens": tokens,
            "characters": characters,
            "characters_per_token": characters / max(1, tokens - split.documents),
            "bytes": tokens * split.tokens.dtype.itemsize,
        }
    return counts


def show(found: "Shards", console: "Console") -> None:
    """Print the counts of each split as a table."""
    from rich.table import Table

    from congling.core.units import show_bytes, show_count

    table = Table(title=f"shards {found.artifact.path}", title_justify="left")
    for heading in ("split", "documents", "tokens", "characters", "chars/token", "on disk"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for name, counts in _counts(found).items():
        sizes = (show_count(counts["tokens"]), show_count(counts["characters"]))
        ratio, size = f"{counts['characters_per_token']:.3f}", show_bytes(counts["bytes"])
        table.add_row(name, f"{counts['documents']:,}", *sizes, ratio, size)
    console.print(table)
