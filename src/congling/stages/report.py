"""Write the report of a run: one self-contained HTML page, and Markdown with its pictures.

Reads a run directory of any method, or a checkpoint that was pruned or imported; writes into it (or into
--out)::

    congling report runs/book
    congling report runs/dpo --out report
"""

from pathlib import Path
from typing import Annotated

import typer

from congling.core.document import print_document
from congling.core.terminal import put
from congling.methods.options import AsJson


def command(
    run_directory: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run, what `congling train` wrote, or a checkpoint.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder to write; by default RUN/report.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a report page of a run."""
    from congling.report.writing import write_report

    page = write_report(run_directory, out)
    if as_json:
        print_document({"report": page})
    else:
        put(str(page))
