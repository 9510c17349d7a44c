"""Say what is wrong with this installation and this machine, and the command that mends it.

Looks at Python, packages and extras against their supported ranges, torch with its libraries and threads,
memory, disk, terminal and settings, and times a matrix multiplication; changes nothing::

    congling doctor
    congling doctor --out /data/runs
    congling doctor --json

The exit status is 1 where something keeps congling from working.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from congling.core.document import print_document
from congling.methods.options import AsJson

if TYPE_CHECKING:
    from congling.core.installation import Check

ALONE = True
"""The verb means something without arguments."""
_SIGNS = {"good": "ok", "note": "note", "warning": "warning", "error": "ERROR"}


def command(
    out: Annotated[Path, typer.Option(help="Where runs would be written: its disk counts.")] = Path(),
    as_json: AsJson = False,
) -> None:
    """Say what is wrong with this installation, and what mends it."""
    found = run(out)
    if as_json:
        print_document({"sound": all(check.level != "error" for check in found), "checks": found})
    else:
        show(found)
    if any(check.level == "error" for check in found):
        raise typer.Exit(1)


def run(out: Path | str = ".") -> "list[Check]":
    """Every check, in the order in which they are shown."""
    from congling.core import installation
    from congling.train import checkup

    return [*installation.checks(Path(out)), *checkup.checks()]


def show(found: "list[Check]") -> None:
    """Print a line a check, and below what mends it."""
    for check in found:
        print(f"{_SIGNS[check.level]:<8} {check.name}: {check.found}")
        if check.remedy is not None and check.level != "good":
            print(f"{'':<8} {check.remedy}")
    worst = [check for check in found if check.level in ("warning", "error")]
    print("nothing is wrong" if not worst else f"to look at: {', '.join(check.name for check in worst)}")
