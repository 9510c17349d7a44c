"""One process a directory: a lock that the system releases when its holder ends, however it ends.

::

    runs/book/.lock      there while a process works in runs/book: who it is, and since when

The lock is one of the system, taken through ``filelock`` on Linux, macOS and Windows. What stands in the file
is for people alone, and begins behind the first byte, which is all that Windows locks (and hides).
"""

import contextlib
import errno
import json
import os
import shlex
import socket
import stat
import sys
import threading
from collections.abc import Generator
from datetime import datetime
from pathlib import Path
from typing import cast

from filelock import lock_descriptor

from congling.core.errors import UserError

LOCK = ".lock"
_LONGEST = 4096  # bytes of what a holder says of itself
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_held: set[tuple[str, int]] = set()


@contextlib.contextmanager
def only_writer(directory: Path | str, *, once: bool = False) -> Generator[None, None, None]:
    """Hold the directory's lock, making the directory where it is missing.

    What was made for the lock alone is gone behind the block. With ``once`` nothing happens where a caller of
    ours (in this thread) holds the lock already.

    Raises:
        UserError: another process works in this directory (the message says which, and since when), it
            cannot be made, or its ``.lock`` is no file of ours.
    """
    place = Path(directory)
    holder = (os.path.realpath(place), threading.get_ident())
    if once and holder in _held:
        yield
        return
    made = _made(place)
    try:
        descriptor = _locked(place)
        _held.add(holder)
        try:
            yield
        finally:
            _held.discard(holder)
            _left(place / LOCK, descriptor)
    finally:
        for one in made:
            with contextlib.suppress(OSError):  # what is not empty stays
                one.rmdir()


def _made(place: Path) -> list[Path]:
    """Make a directory and those around it; gives those that were missing, the innermost first."""
    missing = [one for one in (place, *place.parents) if not one.exists()]
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # a file of this name, or no right to write here
        what = f"the run directory cannot be made ({error.strerror or type(error).__name__})"
        raise UserError(what, value=str(place), hint="choose another --out") from None
    return missing


def _locked(place: Path) -> int:
    """A descriptor of the lock file, locked and signed."""
    file = place / LOCK
    while True:
        descriptor = _opened(file)
        try:
            if not _taken(descriptor, place):
                raise UserError(
                    f"another process is working in this directory{_holder(descriptor)}",
                    value=str(place),
                    hint="wait until it is done, stop it, or choose another --out",
                )
            if _is_still(file, descriptor):  # its last holder removes it
                _sign(descriptor)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _opened(file: Path) -> int:
    """Open the lock file for reading and writing: neither truncated, nor through a link.

    Raises:
        UserError: it is a link or no plain file, or cannot be opened.
    """
    flags = os.O_RDWR | os.O_CREAT
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):  # each where the system has it
        flags |= getattr(os, name, 0)
    hint = "remove it, or choose another --out"
    try:
        descriptor = -1 if file.is_symlink() else os.open(file, flags, 0o644)
    except OSError as error:
        what = f"the lock of the directory cannot be opened ({error.strerror or type(error).__name__})"
        raise UserError(what, value=str(file), hint="choose another --out") from None
    if descriptor < 0:
        raise UserError(
            "the lock of the directory is a link, which is not followed", value=str(file), hint=hint
        )
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(descriptor)
        raise UserError("the lock of the directory is no plain file", value=str(file), hint=hint)
    return descriptor


def _taken(descriptor: int, place: Path) -> bool:
    try:
        return lock_descriptor(descriptor, blocking=False)
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            what = f"the directory cannot be locked ({error.strerror or type(error).__name__})"
            raise UserError(what, value=str(place), hint="choose another --out") from None
        print(
            f"warning: this file system has no locks: see to it that nothing else works in {place}",
            file=sys.stderr,
        )
        return True


def _is_still(file: Path, descriptor: int) -> bool:
    """Whether the name leads to the file that was opened."""
    ours = os.fstat(descriptor)
    try:
        found = file.lstat()
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)


def _sign(descriptor: int) -> None:
    """Say who holds the lock, unless the file holds something that is not ours."""
    if os.fstat(descriptor).st_size and _said(descriptor) is None:
        return
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    content = {"pid": os.getpid(), "host": socket.gethostname(), "since": now, "command": command[:500]}
    with contextlib.suppress(OSError):  # a full disk: the lock holds without it
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, b"\n" + json.dumps(content).encode() + b"\n")


def _said(descriptor: int) -> dict[str, object] | None:
    """What a holder wrote; None where nobody did."""
    try:
        os.lseek(descriptor, 1, os.SEEK_SET)
        content = json.loads(os.read(descriptor, _LONGEST))
    except (OSError, ValueError, RecursionError):
        return None
    return cast(dict[str, object], content) if isinstance(content, dict) and "pid" in content else None


def _holder(descriptor: int) -> str:
    """`` (process 4711 since 20:15: congling train …)``, as far as it is known."""
    said = _said(descriptor)
    if said is None:
        return ""
    pid, host, since, command = (_printable(said.get(key)) for key in ("pid", "host", "since", "command"))
    elsewhere = f" on {host}" if host and host != socket.gethostname() else ""
    return f" (process {pid}{elsewhere}, since {since}: {command})"


def _printable(value: object) -> str:
    text = str(value)[:200]
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _left(file: Path, descriptor: int) -> None:
    """Remove the lock file if it is ours, and let go of the lock."""
    with contextlib.suppress(OSError):  # Windows removes no open file: the next holder takes it over
        if _said(descriptor) is not None and _is_still(file, descriptor):
            file.unlink()
    os.close(descriptor)
