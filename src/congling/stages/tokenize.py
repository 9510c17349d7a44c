"""Turn documents into token files that training reads straight from the disk.

Reads a documents directory and a tokenizer directory, writes a shards directory::

    congling tokenize runs/book/documents runs/book/tokenizer --out runs/book/shards
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from congling.core.units import show_bytes, show_count
from congling.data import shards
from congling.data.shards import Shards
from congling.tokenizer import store


def command(
    documents: Annotated[Path, typer.Argument(help="A documents directory.")],
    tokenizer: Annotated[Path, typer.Argument(help="A tokenizer directory.")],
    out: Annotated[Path, typer.Option(help="The shards directory to write.")] = Path("shards"),
    overwrite: Annotated[bool, typer.Option(help="Replace a directory that exists.")] = False,
) -> None:
    """Encode documents once, into token files."""
    show(run(documents, tokenizer, out, overwrite=overwrite), Console())


def run(documents: Path | str, tokenizer: Path | str, out: Path | str, *, overwrite: bool = False) -> Shards:
    """Encode every document of both splits; returns the opened shards.

    Raises:
        UserError: an input is missing or damaged, there is no training text, or ``out`` exists.
    """
    shards.write(documents, tokenizer, out, overwrite=overwrite)
    return shards.open_shards(out, tokenizer=store.load(tokenizer))


def show(found: Shards, console: Console) -> None:
    """Print the counts of each split as a table."""
    table = Table(title=f"shards {found.artifact.path}", title_justify="left")
    for heading in ("split", "documents", "tokens", "characters", "chars/token", "on disk"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for name, split in found.splits.items():
        characters, tokens = int(split.characters.sum()), len(split.tokens)
        # end-of-text ids stand for no characters
        ratio = characters / max(1, tokens - split.documents)
        size = show_bytes(tokens * split.tokens.dtype.itemsize)
        counts = (f"{split.documents:,}", show_count(tokens), show_count(characters))
        table.add_row(name, *counts, f"{ratio:.3f}", size)
    console.print(table)
