"""Addresses of the web where files are expected."""

import re
from pathlib import Path

from congling.core.errors import UserError

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,3}(?=[^/])")  # two letters: C:/ is a drive


def refuse_address(name: Path | str) -> None:
    """Say what to do with an address, which as a path has lost a slash and names no file.

    Raises:
        UserError: ``name`` is one, and no file is called so.
    """
    found = _ADDRESS.match(str(name))
    if found is None or Path(name).exists():
        return
    scheme, rest = found[1].lower(), str(name)[found.end() :]
    if scheme == "file":
        raise UserError("this is an address, not a path", value=str(name), hint=f"name the file: /{rest}")
    address = f"{found[1]}://{rest}"
    get = f"curl -L -O '{address}'" if scheme in ("http", "https", "ftp") else "with the program for it"
    raise UserError(
        "this is an address, and congling does not download",
        value=address,
        hint=f"get the file first ({get}), then give its name",
    )
