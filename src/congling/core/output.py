"""Outputs that appear whole or not at all: written beside their place under a temporary name, then renamed.

::

    .book.gguf.partial-4711-1a2b3c4d     while it is written; removed when anything goes wrong
    book.gguf                            after the last byte has reached the disk
"""

import contextlib
import os
import sys
from collections.abc import Generator
from pathlib import Path

from congling.core import leftovers
from congling.core.disk import unwritable, writing_to
from congling.core.errors import UserError
from congling.core.text import printable

_LONGEST_NAME = 220  # bytes; most systems take 255, and the temporary name is longer

_unfinished: set[Path] = set()


@contextlib.contextmanager
def replacing(path: Path | str, *, overwrite: bool = False) -> Generator[Path, None, None]:
    """Yield a free path to write a file or a directory at, and rename it to ``path`` on success.

    Anything raised inside removes what was written, and the directories that were made to hold it. What a
    killed process left of the same output is tidied up before.

    Raises:
        UserError: something other than an empty directory is at ``path`` and ``overwrite`` is false, or
            ``path`` cannot be written to (no permission, no space, no name).
    """
    path = Path(path)
    refuse_names(path)
    try:
        for line in leftovers.sweep(path.parent, path.name):
            warn(line)
        refuse_existing(path, overwrite=overwrite)
        missing = [parent for parent in path.parents if not parent.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from None
    temporary = leftovers.beside(path, "partial")
    _unfinished.add(temporary)
    try:
        with writing_to(path, temporary):
            leftovers.remove(temporary)
            yield temporary
            flush(temporary)
            _rename(temporary, path)
            for parent in missing:  # the names of new folders are in those that hold them
                _flush_one(parent.parent)
    finally:
        with contextlib.suppress(OSError):
            leftovers.remove(temporary)
        _unfinished.discard(temporary)
        for parent in missing:
            with contextlib.suppress(OSError):  # what is not empty stays
                parent.rmdir()


def discard_unfinished() -> None:
    """Remove everything that is being written, for a process that ends without cleaning up."""
    for temporary in list(_unfinished):
        with contextlib.suppress(OSError):
            leftovers.remove(temporary)


def refuse_names(path: Path) -> None:
    """Raise where ``path`` is no name that something can be written under."""
    long = any(len(os.fsencode(part)) > _LONGEST_NAME for part in path.parts)
    if path.name in ("", "..") or long or "\0" in str(path):
        raise UserError("no name for an output, or one that is too long", value=str(path))


def refuse_existing(path: Path, *, overwrite: bool = False) -> None:
    """Raise unless ``path`` is free (an empty directory is): better before the work than after it."""
    refuse_names(path)
    if not overwrite and path.exists() and (not path.is_dir() or any(path.iterdir())):
        kind = "directory" if path.is_dir() else "file"
        hint = "choose another --out, or replace it with --overwrite"
        raise UserError(f"the output {kind} exists already", value=str(path), hint=hint)


def refuse_inputs(path: Path, *inputs: Path | str | None) -> None:
    """Raise if ``path`` is one of the ``inputs`` or a folder around one: writing it would remove them."""
    place = path.resolve()
    for given in inputs:
        if given is not None and place in ((found := Path(given).resolve()), *found.parents):
            what, hint = "the output would take the place of what it is made from", "choose another --out"
            raise UserError(what, value=str(path), hint=hint)


def replace_file(path: Path, content: bytes) -> None:
    """Replace a small file at once and durably, whatever stood there.

    Raises:
        Refused: it cannot be written; what stood there stays.
    """
    temporary = leftovers.beside(path, "partial")
    with writing_to(path, temporary):
        try:
            temporary.write_bytes(content)
            flush(temporary)
            temporary.replace(path)
            _flush_one(path.parent)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a directory, and those around it that are missing.

    Raises:
        Refused: that is not possible.
    """
    with writing_to(path, *path.parents):
        missing = [place for place in (path, *path.parents) if not place.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for place in missing:  # the name of a folder is in the one that holds it
            _flush_one(place.parent)


def flush(path: Path) -> None:
    """Ask the system to put a file, or a directory and the files in it, on the disk."""
    if path.is_dir():
        for inner in path.iterdir():
            flush(inner)
    _flush_one(path)


def flush_folders(*folders: Path) -> None:
    """Ask the system to put the names in some folders on the disk.

    Raises:
        Refused: it cannot.
    """
    for folder in folders:
        with writing_to(folder):
            _flush_one(folder)


def warn(text: str) -> None:
    """Tell a person, on standard error; a terminal that is gone is no reason to stop."""
    with contextlib.suppress(OSError, ValueError):
        print(printable(f"warning: {text}"), file=sys.stderr, flush=True)


def _flush_one(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rename(source: Path, target: Path) -> None:
    """Rename into place; an old directory steps aside first, so a crash leaves one of the two whole.

    It is removed when the new name is on the disk: a power loss in between must not take both.
    """
    aside = leftovers.beside(target, "old")
    if target.is_dir() or (source.is_dir() and target.exists()):
        target.rename(aside)
    try:
        source.replace(target)
    except OSError:
        if aside.exists():
            aside.rename(target)
        raise
    _flush_one(target.parent)
    with contextlib.suppress(OSError):
        leftovers.remove(aside)
