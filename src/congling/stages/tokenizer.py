"""Train a tokenizer on documents: byte-level BPE, unigram or characters.

Reads a documents directory, writes a tokenizer directory::

    congling tokenizer runs/book/documents --out runs/book/tokenizer
    congling tokenizer runs/book/documents --out runs/book/tokenizer tokenizer.kind=bpe
        tokenizer.vocab_size=4096
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from congling.core.document import print_document
from congling.core.errors import UserError
from congling.methods.options import AsJson

if TYPE_CHECKING:  # what learns loads only when something is learnt
    from congling.core.console import Console
    from congling.tokenizer.training import Trained


def command(
    documents: Annotated[Path, typer.Argument(help="A documents directory.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings such as tokenizer.vocab_size=4096.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The tokenizer directory to write.")] = Path("tokenizer"),
    overwrite: Annotated[bool, typer.Option(help="Replace a directory that exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a tokenizer on documents, and report what it does to them."""
    from congling.core.config import build, with_overrides
    from congling.core.console import Console
    from congling.data.vocabulary import learn
    from congling.tokenizer.config import TokenizerConfig

    values = with_overrides({"tokenizer": {}}, overrides or [])
    if unknown := set(values) - {"tokenizer"}:
        raise UserError("settings of this subcommand begin with 'tokenizer.'", value=sorted(unknown)[0])
    config = build(TokenizerConfig, values["tokenizer"], where="tokenizer settings")
    trained = learn(documents, out, config, overwrite=overwrite)
    if as_json:
        advice = trained.advice.reasons if trained.advice else ()
        print_document({"out": out, "report": trained.report, "advice": advice, "notes": trained.notes})
        return
    show(trained, Console())


def show(trained: "Trained", console: "Console") -> None:
    """Print the report as a table, with the reasons for the size."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"tokenizer {trained.artifact.path}"), show_header=False, title_justify="left")
    for name, value in trained.report.lines():
        table.add_row(name, Text(value))
    console.print(table)
    for sentence in (*(trained.advice.reasons if trained.advice else ()), *trained.notes):
        console.print(Padding(Text(sentence), (0, 0, 0, 2)))
