"""Show what can be removed of a folder of runs, and remove it where that is asked for.

Leftovers of killed processes, checkpoints that nothing points at (the best, the latest and those a run is
gone on from stay), old temporary folders. Runs that are training are left alone::

    congling clean
    congling clean runs/book --yes
    congling clean --caches
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from congling.core.document import print_document
from congling.methods.options import AsJson

if TYPE_CHECKING:
    from congling.report.removable import Removable

ALONE = True
"""The verb means something without arguments."""


def command(
    folder: Annotated[Path, typer.Argument(help="The folder to look in.")] = Path("runs"),
    caches: Annotated[
        bool, typer.Option("--caches", help="Also torch's caches of compiled code, which other programs use.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove what is shown.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what can be removed, and remove it with --yes."""
    found = run(folder, caches=caches)
    failed = remove(found) if yes else []
    freed = sum(one.bytes for one in found if one.path not in failed)
    if as_json:
        print_document(
            {"folder": folder, "removable": found, "bytes": freed, "removed": yes, "failed": failed}
        )
    else:
        _show(found, failed, freed, removed=yes)
    if failed:
        raise typer.Exit(1)


def run(folder: Path | str = "runs", *, caches: bool = False) -> "list[Removable]":
    """What can be removed; see :func:`congling.report.removable.removable`.

    Raises:
        UserError: there is no such folder.
    """
    from congling.report.removable import removable

    return removable(folder, caches=caches)


def remove(found: "list[Removable]") -> list[Path]:
    """Remove it; gives what could not be removed."""
    from congling.report import removable

    return removable.remove(found)


def _show(found: "list[Removable]", failed: list[Path], freed: int, *, removed: bool) -> None:
    from congling.core.units import show_bytes

    for one in found:
        state = "stays: cannot be removed" if one.path in failed else one.why
        print(f"{show_bytes(one.bytes):>9}  {one.kind:<10}  {one.path}  ({state})")
    if not found:
        print("there is nothing to remove")
    elif removed:
        print(f"removed: {show_bytes(freed)}")
    else:
        print(f"{show_bytes(freed)} can be removed: the same command with --yes does it")
