"""Outputs that appear whole or not at all: written beside their place under a temporary name, then renamed.

::

    .book.gguf.partial-4711      while it is written; removed when anything goes wrong
    book.gguf                    after the last byte has reached the disk
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from congling.core.errors import UserError

_LONGEST_NAME = 220  # bytes; most systems take 255, and the temporary name is longer
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@contextlib.contextmanager
def replacing(path: Path | str, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a free path to write a file or a directory at, and rename it to ``path`` on success.

    Anything raised inside removes what was written, and the directories that were made to hold it.

    Raises:
        UserError: something other than an empty directory is at ``path`` and ``overwrite`` is false, or
            ``path`` cannot be written to (no permission, no space, no name).
    """
    path = Path(path)
    refuse_existing(path, overwrite=overwrite)
    missing = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from None
    temporary = path.with_name(f".{path.name}.partial-{os.getpid()}")
    _remove(temporary)
    try:
        yield temporary
        flush(temporary)
        _rename(temporary, path)
    except OSError as error:
        # A full disk names no file; what was read in the meantime is no business of the output.
        if error.errno in _FULL or temporary.name in str(error.filename):
            raise _unwritable(path, error) from error
        raise
    finally:
        _remove(temporary)
        for parent in missing:
            with contextlib.suppress(OSError):  # what is not empty stays
                parent.rmdir()


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot be written ({error.strerror or error})", value=str(path))


def refuse_existing(path: Path, *, overwrite: bool = False) -> None:
    """Raise unless ``path`` is free (an empty directory is): better before the work than after it."""
    if path.name in ("", "..") or any(len(os.fsencode(part)) > _LONGEST_NAME for part in path.parts):
        raise UserError("no name for an output, or one that is too long", value=str(path))
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


def flush(path: Path) -> None:
    """Ask the system to put a file, or a directory and the files in it, on the disk."""
    if path.is_dir():
        for inner in path.iterdir():
            flush(inner)
    _flush_one(path)


def _flush_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rename(source: Path, target: Path) -> None:
    """Rename into place; an old directory steps aside first, so a crash leaves one of the two whole."""
    aside = target.with_name(f".{target.name}.old-{os.getpid()}")
    if target.is_dir() or (source.is_dir() and target.exists()):
        target.rename(aside)
    try:
        source.replace(target)
    except OSError:
        if aside.exists():
            aside.rename(target)
        raise
    _remove(aside)
    _flush_one(target.parent)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
