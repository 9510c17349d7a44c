"""Finished directories: written under a temporary name, sealed by a manifest, then renamed into place.

::

    runs/book/tokenizer/
    ├── tokenizer.json ...      the files
    └── MANIFEST.json           kind, format version, parents, command, SHA-256 of each file and of itself;
                                there = complete

What is listed is a file of this directory: a link that leads out of it is not followed.

Raises:
    UserError: throughout, when a directory is missing, of another kind, unfinished or damaged.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from congling.core import leftovers
from congling.core.disk import reading_from
from congling.core.errors import UserError
from congling.core.output import replace_file, replacing, warn
from congling.core.text import encoded

MANIFEST = "MANIFEST.json"
FORMAT_VERSION = 1
_SEAL = b',\n "checksum": "'
"""Begins the last line of a manifest, which holds the SHA-256 of all before it."""
_AGAIN = "make the directory again, or restore the file"


@dataclass(frozen=True)
class Artifact:
    """A complete directory and what its manifest says."""

    path: Path
    kind: str
    fingerprint: str
    """Hash over the names and contents of all its files: what later artifacts name as their parent."""
    parents: Mapping[str, str]
    files: Mapping[str, str] = field(repr=False)
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def verify(self) -> None:
        """Compare every file with the manifest's SHA-256.

        Raises:
            UserError: a file is missing or differs.
        """
        for name in self.files:
            self.checked(name)

    def checked(self, name: str) -> Path:
        """Path of one file of the directory, after a comparison with its SHA-256.

        Raises:
            UserError: the file is missing or differs, or the manifest does not know it.
        """
        if name not in self.files:
            raise UserError("the manifest knows no such file", where=self.path, value=name, hint=_AGAIN)
        try:
            found = file_hash(self.path / name)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError):
            found = None  # no such file, or a name that none can have
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise UserError(f"a file cannot be read ({why})", where=self.path, value=name) from None
        if found is None:
            raise UserError("a file of this directory is missing", where=self.path, value=name, hint=_AGAIN)
        if found != self.files[name]:
            raise UserError(
                "a file does not match its checksum: it is damaged or was edited",
                where=self.path,
                value=name,
                hint=_AGAIN,
            )
        return self.path / name

    def fact(self, name: str) -> Any:
        """What the manifest says under a name.

        Raises:
            UserError: nothing.
        """
        if name not in self.facts:
            raise UserError("the manifest does not say this", where=self.path / MANIFEST, value=name)
        return self.facts[name]


@contextlib.contextmanager
def writing(
    path: Path | str,
    kind: str,
    *,
    parents: Mapping[str, Artifact] | None = None,
    facts: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> Generator[Path, None, None]:
    """Write a directory as a whole or not at all: yields a temporary one, sealed and renamed on success.

    ``facts`` are small JSON values for the manifest; the caller may fill the dictionary inside the block.

    Raises:
        UserError: something is at ``path`` already and ``overwrite`` is false, or it cannot be written.
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
    write_sealed(path / MANIFEST, manifest)


def opened(path: Path | str, kind: str, *, verify: bool = False) -> Artifact:
    """Open a finished directory of one kind; ``verify`` also reads and hashes every file.

    One that a killed process moved aside, and never replaced, comes back.

    Raises:
        UserError: it is missing, unfinished, of another kind or a newer format, or damaged: the manifest, a
            file that is not there or a link that leads out of it, and (with ``verify``) any file.
    """
    path = Path(path)
    if not os.path.lexists(path):
        for line in leftovers.sweep(path.parent, path.name):
            warn(line)
    try:
        manifest = json.loads(read_sealed(path / MANIFEST))
        files = {str(name): str(value) for name, value in manifest["files"].items()}
        found, version = str(manifest["kind"]), int(manifest["format_version"])
        parents = {str(name): str(value) for name, value in manifest["parents"].items()}
        facts = {str(name): value for name, value in manifest.get("facts", {}).items()}
    except (FileNotFoundError, NotADirectoryError):
        missing = f"the {kind} directory does not exist"
        state = f"this directory holds no finished {kind}" if path.is_dir() else missing
        raise UserError(state, value=str(path)) from None
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise UserError(f"the manifest cannot be read ({why})", where=path / MANIFEST) from None
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise UserError(
            f"the manifest cannot be read ({type(error).__name__})", where=path / MANIFEST
        ) from None
    if found != kind:
        raise UserError(f"this is a {found} directory, but a {kind} directory is needed", value=str(path))
    if version > FORMAT_VERSION:
        raise UserError("written by a newer congling", where=path, value=version, hint="upgrade congling")
    artifact = Artifact(path, found, _fingerprint(files), parents, files, facts)
    _refuse_others(artifact)
    if verify:
        artifact.verify()
    return artifact


def exists(path: Path | str) -> bool:
    """Whether a finished directory (of any kind) is at ``path``.

    Raises:
        UserError: the system does not let one look there.
    """
    with reading_from(path):
        return (Path(path) / MANIFEST).is_file()


def copy(artifact: Artifact, target: Path) -> None:
    """Copy a directory's files, those that its manifest lists and no others, into a new one.

    Raises:
        UserError: a file is damaged or missing.
    """
    for name in (*artifact.files, MANIFEST):
        source = artifact.path / MANIFEST if name == MANIFEST else artifact.checked(name)
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target / name)


def file_hash(file: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Replace a small text file atomically and durably.

    Raises:
        UserError: it cannot be written; what stood there stays.
    """
    replace_file(path, encoded(text, path))


def write_sealed(file: Path, content: Mapping[str, Any]) -> None:
    """Replace a small JSON file whose last key is the checksum of all before it.

    Raises:
        UserError: it cannot be written; what stood there stays.
    """
    text = json.dumps(dict(content), ensure_ascii=False, indent=1).removesuffix("\n}")
    body = encoded(text, file)
    replace_file(file, body + _SEAL + hashlib.sha256(body).hexdigest().encode() + b'"\n}\n')


def read_sealed(file: Path) -> bytes:
    """Content of such a file, after a comparison with its checksum.

    Early ones have none, nor has one that a program took apart and wrote anew in another form: the checksum
    is against damage. Whoever means to change a file can, and what it says is checked all the same.

    Raises:
        UserError: it differs.
        OSError: the file cannot be read.
    """
    content = file.read_bytes()
    body, found, rest = content.rpartition(_SEAL)
    if found and rest != hashlib.sha256(body).hexdigest().encode() + b'"\n}\n':
        name = "manifest" if file.name == MANIFEST else "file"
        what = f"the {name} does not match its checksum: it is damaged or was edited"
        raise UserError(what, where=file, hint=_AGAIN)
    return content


def leads_out(path: Path, folder: Path) -> bool:
    """Whether ``path``, below ``folder``, is or goes through a link to somewhere else."""
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _refuse_others(artifact: Artifact) -> None:
    """Raise where the manifest names what is not in the directory."""
    for name in artifact.files:
        parts, where = Path(name).parts, artifact.path / MANIFEST
        if Path(name).is_absolute() or ".." in parts or "\0" in name or not parts:
            raise UserError("the manifest names a file outside its directory", where=where)
        try:
            state = (artifact.path / name).lstat()
        except OSError:
            state = None
        if state is None:
            raise UserError(
                "a file of this directory is missing", where=artifact.path, value=name, hint=_AGAIN
            )
        if leads_out(artifact.path / name, artifact.path):
            hint = "links are followed inside a directory only: put the file itself there"
            raise UserError("a link leads out of this directory", where=artifact.path, value=name, hint=hint)


def _fingerprint(files: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()
