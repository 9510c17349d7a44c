"""Files that are opened to be read: those that end, and no more of them than makes sense.

A pipe without a writer, a socket or a terminal would keep a program waiting, a device would never end.
Whatever is no ordinary file is refused here, as the :class:`OSError` that every reader deals with anyway.
"""

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

SMALL = 64_000_000
"""Bytes of a file that is read at once and written by people or about models: settings, templates, lists."""
_KINDS = (
    (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
)  # fmt: skip


def opened(path: Path | str) -> BinaryIO:
    """Open an ordinary file.

    Raises:
        OSError: it cannot be opened, or is a pipe, a socket, a device or a directory; ``strerror`` says so.
    """
    # A pipe without a writer would keep even the opening waiting.
    flags = (
        os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    )
    try:
        descriptor = os.open(path, flags)
    except ValueError as error:  # a zero in the name
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    try:
        require_ordinary(os.fstat(descriptor).st_mode, path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def require_ordinary(mode: int, path: Path | str) -> None:
    """Refuse what never ends, or may never begin.

    Args:
        mode: as :func:`os.stat` gives it.
        path: where it is.

    Raises:
        OSError: it is no file, but a pipe, a socket, a device or a directory.
    """
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a directory", str(path))
    for is_kind, name in _KINDS:
        if is_kind(mode):
            raise OSError(errno.EINVAL, f"it is {name}, not a file: save what comes from it first", str(path))


def content(path: Path | str, most: int = SMALL) -> bytes:
    """All bytes of a file that is small.

    Raises:
        OSError: as :func:`opened`; or it is larger than ``most``.
    """
    with opened(path) as stream:
        found = stream.read(most + 1) or b""  # nothing at all: of the system's own, where none waits
    if len(found) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most:,} bytes", str(path))
    return found


def text(path: Path | str, most: int = SMALL) -> str:
    """All text of a small file in UTF-8.

    Raises:
        OSError: as :func:`content`.
        UnicodeDecodeError: it is not UTF-8.
    """
    return content(path, most).decode("utf-8")


def exists(path: Path | str) -> bool:
    """Whether something is there; what no file can be named is not."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def located(path: Path | str) -> Path:
    """Where a name leads: where nothing has it, a file whose name is written so in GB18030 or Big5.

    Archives made by Windows in China hold such names, which look as they should nowhere else.
    """
    path = Path(path)
    if exists(path) or str(path).isascii():
        return path
    place = Path(path.anchor)
    for part in path.parts[bool(path.anchor) :]:
        place = next((one for one in _spellings(place, part) if exists(one)), place / part)
    return place if exists(place) else path


def _spellings(folder: Path, name: str) -> list[Path]:
    found = [folder / name]
    for codec in ("gb18030", "big5hkscs"):
        with contextlib.suppress(UnicodeError):
            found.append(folder / os.fsdecode(name.encode(codec)))
    return found


def require_outside_system(path: Path) -> None:
    """Refuse folders in which the system shows itself: they are endless, and hold no texts.

    Raises:
        OSError: it is one, or lies in one.
    """
    if os.name == "posix" and path.resolve().parts[1:2] in (("proc",), ("sys",), ("dev",)):
        raise OSError(errno.EINVAL, "it belongs to the system and holds no texts", str(path))
