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
from congling.core.errors import UserError
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
    page = run(run_directory, out)
    if as_json:
        print_document({"report": page})
    else:
        put(str(page))


def run(path: Path | str, out: Path | str | None = None) -> Path:
    """Write ``report.html``, ``report.md`` and charts; returns the HTML file.

    Raises:
        UserError: there is no run or checkpoint at ``path``, or the folder cannot be written to.
    """
    from congling.core import artifact
    from congling.core.artifact import leads_out
    from congling.core.disk import Refused
    from congling.report import pages, record
    from congling.report.checkpoint_content import write

    place = record.locate(path)
    if out is None and leads_out(place / "report", place):
        hint = "remove the link, or name a folder with --out"
        raise UserError("a link leads out of this run", value=str(place / "report"), hint=hint)
    try:
        if artifact.exists(place) and not (place / "metrics.jsonl").is_file():
            return write(place, place / "report" if out is None else out)
        return pages.write(record.read(place), place / "report" if out is None else out)
    except Refused as error:
        raise error.and_then("name another folder with --out") from error
