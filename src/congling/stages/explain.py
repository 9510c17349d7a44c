"""Say what a finished run means: symptom, cause and cure, from what it recorded.

Reads a run directory, writes nothing::

    congling explain runs/book
    congling explain runs/poet --json
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from congling.core.document import print_document
from congling.methods.options import AsJson

if TYPE_CHECKING:
    from congling.core.diagnosis import Diagnosis


def command(
    run_directory: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run, or what `congling train` wrote.")
    ],
    as_json: AsJson = False,
) -> None:
    """Explain a finished run: symptom, cause, cure."""
    from congling.core.console import Console
    from congling.plan.show import diagnosis_text

    found = run(run_directory)
    if as_json:
        print_document(found)
        return
    console = Console()
    for finding in found:
        console.print(diagnosis_text(finding))
    if not found:
        console.print("nothing stands out")


def run(path: Path | str) -> "list[Diagnosis]":
    """Findings about the run at ``path``, the worst first.

    Raises:
        UserError: there is no run there.
    """
    from congling.report import record
    from congling.report.explain import everything

    return everything(record.read(record.locate(path)))
