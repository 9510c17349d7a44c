"""What the system refuses when files are written or read, as one error: what, where, free space, what to do.

It comes in many forms (``OSError`` with a file's name or without, ``SafetensorError``, ``shutil.Error``, a
sentence of numpy's), which all are told here, and only here.
"""

import contextlib
import errno
import os
import re
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from safetensors import SafetensorError

from congling.core.errors import UserError
from congling.core.units import show_bytes, show_seconds

T = TypeVar("T")
PRINTED = "what is printed"
"""What stands for a name where it is none of a file's."""
_QUOTA = getattr(errno, "EDQUOT", errno.ENOSPC)  # not everywhere
_STALE = getattr(errno, "ESTALE", errno.EIO)
_FULL = (errno.ENOSPC, _QUOTA)
_NAMELESS = (*_FULL, errno.EFBIG, errno.EIO, errno.EROFS)
"""What writing into an open file fails with: no name says which file it was."""
_PASSING = (*_FULL, errno.EIO, _STALE, errno.ETIMEDOUT)
_SHORT = re.compile(r"\d+ requested and \d+ written")  # numpy, whose error has no number
_NUMBER = re.compile(r"(?:\(os error |\[Errno )(\d+)[\])]")  # safetensors; a list of failures from shutil
_RIGHTS = "choose a place you may write to, or ask for the right to"
_REMEDIES = {
    errno.ENOSPC: "free some space, or choose a place on another disk",
    _QUOTA: "remove files of yours, ask for more, or choose a place on another disk",
    errno.EFBIG: "raise the largest size of a file (ulimit -f), or choose a place on another file system",
    errno.EROFS: "choose a place on a disk that can be written to",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EIO: "the disk, or the way to it, reports errors: look at the system's log, and copy what matters",
    errno.ELOOP: "links are not written through: put a file there, or remove the link",
    errno.EMFILE: "raise the number of open files (ulimit -n)",
}


class Refused(UserError):
    """The system did not let something be written or read."""

    def __init__(self, what: str, *, number: int | None, value: str | None, hint: str | None) -> None:
        super().__init__(what, value=value, hint=hint)
        self.number = number
        """As in ``errno``; None where it is not known."""

    @property
    def passes(self) -> bool:
        """Whether the same may succeed a while later: there is space again, a disk answers again."""
        return self.number in _PASSING

    def and_then(self, advice: str) -> "Refused":
        """The same with more advice."""
        if not advice:
            return self
        hint = advice if self.hint is None else f"{self.hint}; {advice}"
        value = None if self.value is None else str(self.value)
        return Refused(self.what, number=self.number, value=value, hint=hint)


def unwritable(path: Path | str, error: Exception) -> Refused:
    """The error for what could not be written at ``path``, with the space that is left there."""
    number = _number(error)
    why = _reason(error, number)
    if number in _FULL and path != PRINTED:
        why += _left(path)
    return Refused(
        f"cannot be written ({why})", number=number, value=str(path), hint=_REMEDIES.get(number or 0)
    )


def unreadable(path: Path | str, error: Exception) -> Refused:
    """The error for what could not be read at ``path``."""
    number = _number(error)
    hint = {errno.EACCES: "ask for the right to read it", errno.EPERM: "ask for the right to read it"}
    remedies = hint | {key: _REMEDIES[key] for key in (errno.EIO, errno.EMFILE)}
    what = f"cannot be read ({_reason(error, number)})"
    return Refused(what, number=number, value=str(path), hint=remedies.get(number or 0))


def refusal(error: OSError) -> Refused:
    """The error for what the system refused somewhere, where nothing more is known than it says itself.

    What has no name is what is printed: files are written where :func:`writing_to` names them.
    """
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    number = _number(error)
    if number in _NAMELESS and not (number == errno.EIO and not names):
        return unwritable(names[-1] if names else PRINTED, error)
    what = f"the system refuses ({_reason(error, number)})"
    return Refused(what, number=number, value=" → ".join(names) or None, hint=_REMEDIES.get(number or 0))


@contextlib.contextmanager
def writing_to(path: Path | str, *names: Path) -> Generator[None, None, None]:
    """Within the block, what the system says against writing at ``path``, or below it, is one error.

    ``names`` are others that it has while it is written.

    Raises:
        Refused: that is so. Errors about other files pass, since what is read in the meantime is no business
            of the output.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        if _concerns(error, (Path(path), *names)):
            raise unwritable(path, error) from error
        raise


@contextlib.contextmanager
def reading_from(path: Path | str) -> Generator[None, None, None]:
    """Within the block, what the system says against reading at ``path`` is one error.

    Raises:
        Refused: a file or a folder cannot be read.
    """
    try:
        yield
    except OSError as error:
        name = error.filename if isinstance(error.filename, str) else path
        raise unreadable(name, error) from error


class Retry(Protocol):
    """Does something that writes, perhaps again after a while."""

    def __call__(self, action: Callable[[], T]) -> T:
        """What ``action`` returns."""
        ...


def at_once(action: Callable[[], T]) -> T:
    """Do it once: whoever waits for a result would rather know."""
    return action()


class Patience:
    """Tries again what a full disk refused, for some time: whoever frees space lets the work go on.

    Where it has given up once it does not wait again: what is still to be written on the way out is tried.
    """

    def __init__(
        self,
        seconds: float,
        *,
        say: Callable[[str], None],
        stopped: Callable[[], bool] = lambda: False,
        advice: str = "",
        pause: float = 1.0,
    ) -> None:
        self.seconds, self.say, self.stopped, self.advice, self.pause = seconds, say, stopped, advice, pause
        self._given_up = False

    def __call__(self, action: Callable[[], T]) -> T:
        """What ``action`` returns, sooner or later; ``action`` leaves nothing half done when it fails.

        Raises:
            Refused: it still fails when the time is up or someone asked to stop, or waiting cannot help.
        """
        began = None
        while True:
            try:
                result = action()
            except Refused as error:
                if not error.passes or self._given_up or self.stopped():
                    raise error.and_then(self.advice) from error
                if began is None:
                    began = time.monotonic()
                    self.say(f"paused: {error}\n  it is tried again for {show_seconds(self.seconds)}")
                if time.monotonic() - began >= self.seconds:
                    self._given_up = True
                    raise error.and_then(self.advice) from error
                self._wait()
            else:
                if began is not None:
                    self.say(f"going on after {show_seconds(time.monotonic() - began)}")
                return result

    def _wait(self) -> None:
        """Sleep a little, and wake when someone asks to stop."""
        end = time.monotonic() + self.pause
        while (left := end - time.monotonic()) > 0 and not self.stopped():
            time.sleep(min(left, 0.1))


def _concerns(error: Exception, places: Sequence[Path]) -> bool:
    """Whether an error is about writing at one of the places or below it."""
    names = [getattr(error, key, None) for key in ("filename", "filename2")]
    named = [Path(os.fsdecode(name)).absolute() for name in names if isinstance(name, str | bytes)]
    if named:
        absolute = [place.absolute() for place in places]
        return any(name.is_relative_to(place) for name in named for place in absolute)
    return _number(error) in _NAMELESS


def _number(error: Exception) -> int | None:
    number = getattr(error, "errno", None)
    if number is None and (found := _NUMBER.search(str(error))):
        number = int(found[1])
    if number is None and isinstance(error, OSError) and _SHORT.search(str(error)):
        number = errno.ENOSPC
    return number


def _reason(error: Exception, number: int | None) -> str:
    known = getattr(error, "strerror", None)
    return known or (os.strerror(number) if number is not None else str(error)[:200])


def _left(path: Path | str) -> str:
    """How much space, or how few files, there are left where ``path`` is or would be."""
    place = Path(path).absolute()
    with contextlib.suppress(OSError):
        while not place.exists():
            place = place.parent
        if hasattr(os, "statvfs") and os.statvfs(place).f_files and not os.statvfs(place).f_favail:
            return ", no more files can be made"
        return f", {show_bytes(shutil.disk_usage(place).free)} free"
    return ""
