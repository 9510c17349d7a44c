"""Logs of one JSON object a line: written in whole lines, read past whatever is no such line.

A kill, a full disk or a power loss leaves half a line or zeros at the end. The next line begins after the
last whole one, and whoever reads counts what it left out, and can say so.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from congling.core.disk import Retry, at_once, reading_from, writing_to
from congling.core.errors import UserError
from congling.core.numbers import finite
from congling.core.output import warn
from congling.core.text import encoded
from congling.core.units import plural

LONGEST_LINE = 1_000_000
_BLOCK = 2**16


@dataclass
class Unread:
    """Counts what reading a log left out."""

    lines: int = 0
    first: int | None = None
    """Number of the first such line, from 1."""
    end: int = 0
    """Bytes after the last line that was looked at."""

    def sentence(self, name: str) -> str | None:
        """In a sentence; None where nothing was left out."""
        parts: list[str] = []
        if self.lines:
            what = f"{self.lines:,} {plural(self.lines, 'line')} of {name} cannot be read"
            parts.append(
                f"{what} and {'is' if self.lines == 1 else 'are'} left out, the first is {self.first:,}"
            )
        if self.end:
            parts.append(f"the last {self.end:,} bytes of {name} are not read: it is too long")
        return "; ".join(parts) or None

    def note(self, line: int) -> None:
        """Count one line."""
        self.lines += 1
        self.first = line if self.first is None else self.first


class JsonLines:
    """A growing file of one JSON object a line."""

    def __init__(self, path: Path, retry: Retry = at_once) -> None:
        self.path, self._retry = path, retry

    def append(self, *rows: Mapping[str, Any]) -> None:
        """Write rows at the end, all or none, after the last whole line.

        Raises:
            Refused: they cannot be written; the file is as it was.
        """
        content = encoded("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), self.path)
        self._retry(lambda: self._append(content))

    def size(self) -> int:
        """Bytes, once they are safely on the disk.

        Raises:
            Refused: the disk does not take them.
        """
        return self._retry(self._size)

    def fingerprint(self, size: int) -> str | None:
        """SHA-256 of the first ``size`` bytes; None where there are fewer."""
        found = hashlib.sha256()
        if not self.path.is_file():
            return None
        with reading_from(self.path), self.path.open("rb") as stream:
            while size and (block := stream.read(min(size, 2**20))):
                found.update(block)
                size -= len(block)
        return None if size else found.hexdigest()

    def truncate(self, size: int) -> None:
        """Forget what was written after the first ``size`` bytes.

        Raises:
            UserError: the file is shorter than that: it was edited or lost.
        """
        with writing_to(self.path), _opened(self.path) as stream:
            if stream.seek(0, os.SEEK_END) < size:
                raise UserError(
                    "the log is shorter than its checkpoint says: rows of it are lost", where=self.path
                )
            stream.truncate(size)

    def rows(self, unread: Unread | None = None, *, at_most: int | None = None) -> Iterator[dict[str, Any]]:
        """Read the rows; a last one that was cut off is left out.

        Args:
            unread: is told what else had to be left out.
            at_most: bytes that are read, whatever the file holds.
        """
        unread = Unread() if unread is None else unread
        if not os.path.lexists(self.path):
            return
        with reading_from(self.path), self.path.open("rb") as stream:
            for number, line in _lines(stream, unread, at_most):
                row = None if line is None else _row(line)
                if row is not None:
                    yield row
                else:
                    unread.note(number)

    def _append(self, content: bytes) -> None:
        with writing_to(self.path), _opened(self.path) as stream:
            end = _end_of_lines(stream)
            stream.seek(end)
            rest = stream.read(LONGEST_LINE)
            if rest and _row(rest) is not None:  # a whole row but for its line feed
                end, content = end + len(rest), b"\n" + content
            elif rest:
                cut = stream.seek(0, os.SEEK_END) - end
                stream.truncate(end)
                warn(f"{self.path}: the last {cut:,} bytes are no whole line, as a crash leaves it; removed")
            stream.seek(end)
            try:
                left = memoryview(content)
                while left:
                    left = left[stream.write(left) or 0 :]
            except OSError:
                stream.truncate(end)
                raise

    def _size(self) -> int:
        with writing_to(self.path), _opened(self.path) as stream:
            os.fsync(stream.fileno())
            return stream.seek(0, os.SEEK_END)


def _opened(path: Path) -> BinaryIO:
    """Open a log to read and write, without a buffer that could fail later; never through a link."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0)


def _end_of_lines(stream: BinaryIO) -> int:
    """Where the last whole line ends; from the end backwards, since logs become long."""
    end, block = stream.seek(0, os.SEEK_END), 1
    while end:
        start = max(0, end - block)
        stream.seek(start)
        place = stream.read(end - start).rfind(b"\n")
        if place >= 0:
            return start + place + 1
        end, block = start, _BLOCK
    return 0


def _lines(stream: BinaryIO, unread: Unread, at_most: int | None) -> Iterator[tuple[int, bytes | None]]:
    """Number and content of each line; None for one that is too long to be a row.

    What stands at the very end without a line feed may be half a row, or one that is being written: it
    counts where it is whole.
    """
    number, seen = 1, 0
    while line := stream.readline(LONGEST_LINE):
        seen += len(line)
        if at_most is not None and seen > at_most:
            unread.end = stream.seek(0, os.SEEK_END) - seen + len(line)
            return
        whole = line.endswith(b"\n")
        if whole or _row(line) is not None:
            yield number, line
        elif len(line) == LONGEST_LINE:
            while not whole and (line := stream.readline(LONGEST_LINE)):
                seen, whole = seen + len(line), line.endswith(b"\n")
            yield number, None
        number += 1


def _row(line: bytes) -> dict[str, Any] | None:
    """The object of a line, with None for numbers that are none; None where it is no object."""
    try:
        row = json.loads(line, parse_int=_int, parse_float=_float, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
    return cast(dict[str, Any], row) if isinstance(row, dict) else None


def _int(text: str) -> int | None:
    return int(text) if len(text) <= 30 else None


def _float(text: str) -> float | None:
    return finite(float(text))
