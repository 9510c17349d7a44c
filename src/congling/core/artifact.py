"""Finished directories: written under a temporary name, sealed by a manifest, then renamed into place.

::

    runs/book/tokenizer/
    ├── tokenizer.json ...      the files
    └── MANIFEST.json           kind, format version, parents, command, SHA-256 of each file; there = complete

Raises:
    UserError: throughout, when a directory is missing, of another kind, unfinished or damaged.
"""

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from congling.core.errors import UserError
from congling.core.output import flush, replacing
from congling.core.text import encoded

MANIFEST = "MANIFEST.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Artifact:
    """A complete directory and what its manifest says."""

    path: Path
    kind: str
    fingerprint: str
    """Hash over the names and contents of all its files: what later artifacts name as their parent."""
    parents: Mapping[str, str]
    files: Mapping[str, str] = field(repr=False)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def verify(self) -> None:
        """Compare every file with the manifest's SHA-256.

        Raises:
            UserError: a file is missing or differs.
        """
        for name, expected in self.files.items():
            file = self.path / name
            try:
                found = file_hash(file) if file.is_file() else None
            except OSError:  # a name that no file can have, or one that cannot be read
                found = None
            if found is None:
                raise UserError("a file of this directory is missing", where=self.path, value=name)
            if found != expected:
                raise UserError(
                    "a file does not match its checksum: it is damaged or was edited",
                    where=self.path,
                    value=name,
                    hint="make the directory again, or restore the file",
                )


@contextlib.contextmanager
def writing(
    path: Path | str,
    kind: str,
    *,
    parents: Mapping[str, Artifact] | None = None,
    facts: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> Iterator[Path]:
    """Write a directory as a whole or not at all: yields a temporary one, sealed and renamed on success.

    ``facts`` are small JSON values for the manifest; the caller may fill the dictionary inside the block.

    Raises:
        UserError: something is at ``path`` already and ``overwrite`` is false.
    """
    with replacing(path, overwrite=overwrite) as temporary:
        temporary.mkdir()
        yield temporary
        seal(temporary, kind, parents=parents or {}, facts=facts or {})


def seal(path: Path, kind: str, *, parents: Mapping[str, Artifact], facts: Mapping[str, Any]) -> None:
    """Write the manifest of a finished directory, durably and last."""
    files = {}
    for file in sorted(file for file in path.rglob("*") if file.is_file() and file.name != MANIFEST):
        files[file.relative_to(path).as_posix()] = file_hash(file)
    manifest = {
        "kind": kind,
        "format_version": FORMAT_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "parents": {name: parent.fingerprint for name, parent in parents.items()},
        "facts": dict(facts),
        "files": files,
    }
    write_text(path / MANIFEST, json.dumps(manifest, ensure_ascii=False, indent=1) + "\n")


def opened(path: Path | str, kind: str, *, verify: bool = False) -> Artifact:
    """Open a finished directory of one kind; ``verify`` also reads and hashes every file.

    Raises:
        UserError: it is missing, unfinished, of another kind or a newer format, or (with ``verify``) damaged.
    """
    path = Path(path)
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        files = {str(name): str(value) for name, value in manifest["files"].items()}
        found, version = str(manifest["kind"]), int(manifest["format_version"])
        parents = {str(name): str(value) for name, value in manifest["parents"].items()}
        facts = {str(name): value for name, value in manifest.get("facts", {}).items()}
    except FileNotFoundError:
        missing = f"the {kind} directory does not exist"
        state = f"this directory holds no finished {kind}" if path.is_dir() else missing
        raise UserError(state, value=str(path)) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"the manifest cannot be read ({type(error).__name__})", where=path / MANIFEST
        ) from None
    if found != kind:
        raise UserError(f"this is a {found} directory, but a {kind} directory is needed", value=str(path))
    if version > FORMAT_VERSION:
        raise UserError("written by a newer congling", where=path, value=version, hint="upgrade congling")
    if any(Path(name).is_absolute() or ".." in Path(name).parts for name in files):
        raise UserError("the manifest names a file outside its directory", where=path / MANIFEST)
    artifact = Artifact(path, found, _fingerprint(files), parents, files, facts)
    if verify:
        artifact.verify()
    return artifact


def exists(path: Path | str) -> bool:
    """Whether a finished directory (of any kind) is at ``path``."""
    return (Path(path) / MANIFEST).is_file()


def file_hash(file: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Replace a small text file atomically and durably."""
    temporary = path.with_name(f".{path.name}.partial-{os.getpid()}")
    temporary.write_bytes(encoded(text, path))
    flush(temporary)
    temporary.replace(path)


def _fingerprint(files: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()
