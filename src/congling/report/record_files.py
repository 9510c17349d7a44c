"""Files of a run, read without trusting them; what cannot be read is left out and told in ``faults``."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from congling.core import artifact, files, pointers
from congling.core.config import read_toml
from congling.core.errors import UserError
from congling.core.json_lines import JsonLines, Unread

LARGEST_FILE = 64_000_000
"""Bytes of a file that are read, at most."""


def rows_of(file: Path, faults: list[str]) -> Sequence[Mapping[str, Any]]:
    """Objects of a log, up to a bound; what is left out goes to ``faults``."""
    unread = Unread()
    rows = list(JsonLines(file).rows(unread, at_most=LARGEST_FILE))
    faults += [told] if (told := unread.sentence(file.name)) is not None else []
    return rows


def json_of(file: Path, faults: list[str]) -> Mapping[str, Any]:
    """A table in a JSON file; empty where there is none, or none that can be read."""
    if not file.is_file():
        return {}
    try:
        content = json.loads(files.content(file, LARGEST_FILE))
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, Mapping):
        faults.append(f"{file.name} cannot be read and is left out")
    return mapping(content)


def toml_of(file: Path, faults: list[str]) -> Mapping[str, Any]:
    """A TOML file; empty where there is none, or none that can be read."""
    if not file.is_file():
        return {}
    try:
        return read_toml(file)
    except UserError as error:
        faults.append(f"{file.name} cannot be read and is left out: {error.what}")
        return {}


def changed(run: Path) -> Iterator[str]:
    """Logs that are not what they were when the newest checkpoint was written."""
    for checkpoint in pointers.finished(run)[:1]:
        try:
            found = artifact.opened(checkpoint, "checkpoint")
            state = mapping(json.loads(found.checked("state/state.json").read_bytes()))
        except (UserError, ValueError, RecursionError):
            return  # no state of ours, or damaged, which whoever loads it says
        hashes = mapping(state.get("log_hashes"))
        for name, size in mapping(state.get("logs")).items():
            log = JsonLines(run / f"{Path(name).name}.jsonl")
            if name in hashes and isinstance(size, int) and log.fingerprint(size) != hashes[name]:
                yield f"{log.path.name} was changed, or damaged, since the newest checkpoint was written"


def mapping(value: object) -> Mapping[str, Any]:
    """``value`` if it is a table, else an empty one."""
    return value if isinstance(value, Mapping) else {}
