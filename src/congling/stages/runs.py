"""List the runs in a folder: what made them, loss, size, time, disk, and whether they are finished.

Reads run directories, writes nothing::

    congling runs
    congling runs experiments/2026
    congling runs --json
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from congling.core.document import print_document
from congling.methods.options import AsJson

if TYPE_CHECKING:
    from congling.report.listing import Listed

ALONE = True
"""The verb means something without arguments."""


def command(
    folder: Annotated[Path, typer.Argument(help="The folder to look in.")] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """List the runs in a folder."""
    found = run(folder)
    if as_json:
        print_document({"folder": folder, "runs": found})
        return
    from congling.core.console import Console

    console = Console()
    if not found:
        console.print(f"no runs in {folder}", markup=False, highlight=False)
        return
    console.print(table(found))
    for one in found:
        if one.problem:
            console.print(f"{one.name}: {one.problem}", style="yellow", markup=False, highlight=False)


def run(folder: Path | str = "runs") -> "list[Listed]":
    """All runs in a folder, by name.

    Raises:
        UserError: there is no such folder.
    """
    from congling.report.listing import listed

    return listed(folder)


def table(found: "list[Listed]") -> Any:
    """The runs as a table for the terminal."""
    from rich.table import Table
    from rich.text import Text

    from congling.core.units import show_bytes, show_count, show_seconds

    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("run", "made by", "state", "held-out", "step", "parameters", "time", "disk"):
        left = heading in ("run", "made by", "state")
        shown.add_column(heading, justify="left" if left else "right", overflow="fold")
    for one in found:
        step = "–" if one.step is None else f"{one.step:,}" + (f"/{one.steps:,}" if one.steps else "")
        shown.add_row(
            Text(one.name),
            Text(one.method or "–"),
            one.state,
            "–" if one.loss is None else f"{one.loss:.3f} {one.unit}",
            step,
            "–" if one.parameters is None else show_count(one.parameters),
            "–" if one.seconds is None else show_seconds(one.seconds),
            show_bytes(one.bytes),
        )
    return shown
