"""From a file to decoded lines with bounded memory, whatever the file holds.

::

    bytes ─(gzip, zstd)→ bytes ─(UTF-16/32 to UTF-8)→ bytes ─(cut at LF)→ lines ─(decode each)→ str

Lines are cut at LF alone: U+2028, U+0085 and lone CR may stand inside a JSON string.
"""

import codecs
import functools
import gzip
import io
import itertools
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import zstandard

from congling.core import files
from congling.core.complaints import Word
from congling.core.errors import UserError
from congling.data import encoding
from congling.data.document import LARGEST_WINDOW
from congling.data.encoding import Encoding
from congling.data.problems import ReadingLog

CHUNK = 1 << 18  # bytes read at a time
MOST_TIMES, MOST_UNPACKED = 200, 1 << 28
"""A packed file that unpacks to more than so many times its size, and to so many bytes, is none of text."""
_TRIED = 1 << 21  # bytes of a packed file that tell how much it is packed
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError)

_FOREIGN = (
    (b"%PDF", "a PDF", "export it as text first"),
    (
        b"PK\x03\x04",
        "a ZIP archive (or a Word or PyTorch file)",
        "unpack it, or export the document as text",
    ),
    (b"\xd0\xcf\x11\xe0", "an old Office document", "export it as text first"),
    (b"GGUF", "a GGUF model", "give text files as sources"),
    (b"SQLite format 3", "an SQLite database", "export the table as CSV"),
    (b"\x89PNG", "an image", "give text files as sources"),
    (b"\xff\xd8\xff", "an image", "give text files as sources"),
    (b"\x7fELF", "a program", "give text files as sources"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it first"),
    (b"Rar!", "a RAR archive", "unpack it first"),
    (b"BZh", "a bzip2 file", "unpack it, or compress it with gzip or zstd"),
    (b"\xfd7zXZ", "an xz file", "unpack it, or compress it with gzip or zstd"),
)


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its line feed, or a part of a line that is too long to hold at once."""

    number: int
    """From 1."""
    data: bytes
    ends: bool
    """False when the line goes on in the next part."""


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, unpacking gzip and Zstandard on the fly (told by its first bytes, not its name).

    Raises:
        UserError: the file cannot be opened, never ends, unpacks to far more than any text does, or is of a
            kind that holds no plain text.
    """
    try:
        with files.opened(path) as file:
            head = file.read(16) or b""
            file.seek(0)
            _refuse_foreign(head, path)
            unpacked = _unpacking(file, head)
            if unpacked is None:
                yield cast(IO[bytes], _Whole(file, path, os.fstat(file.fileno()).st_size))
            else:
                found = os.fstat(file.fileno())
                if not _sound_archive(str(path), found.st_size, found.st_mtime_ns):
                    raise _bomb(path)
                yield cast(IO[bytes], _Whole(unpacked, path, _most(found.st_size)))
    except OSError as error:
        raise UserError("cannot read this file", where=path, value=Word(error.strerror or error)) from None


def _unpacking(file: IO[bytes], head: bytes) -> IO[bytes] | None:
    """What unpacks a file that begins so; None where it is not packed."""
    if head.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        decompressor = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW)
        return cast(IO[bytes], decompressor.stream_reader(file, read_across_frames=True))
    return None


class _Whole:
    """A file as long as it was when it was opened, or a packed one as long as one may be: what grows faster
    than it is read, or unpacks without end, would never end.
    """

    def __init__(self, file: IO[bytes], path: Path, most: int) -> None:
        self._file, self._path, self._left = file, path, most

    def read(self, size: int) -> bytes:
        """The next bytes.

        Raises:
            UserError: there are more than there can be.
        """
        part = self._file.read(size) or b""
        self._left -= len(part)
        if self._left < 0:
            if isinstance(self._file, io.BufferedReader):
                raise UserError(
                    "this file grows while it is read", where=self._path, hint="read a copy of it"
                )
            raise _bomb(self._path)
        return part


def _most(size: int) -> int:
    return max(MOST_UNPACKED, MOST_TIMES * size)


def _bomb(path: Path) -> UserError:
    what = f"this file unpacks to more than {MOST_TIMES} times its size"
    return UserError(what, where=path, hint="unpack it yourself if it really is a text")


@functools.lru_cache(maxsize=256)
def _sound_archive(path: str, size: int, changed: int) -> bool:
    """Whether a packed file unpacks to a plausible size, as its beginning tells; a small one is tried whole.

    Args:
        path: where it is.
        size: its bytes.
        changed: when it was, in nanoseconds.
    """
    with files.opened(path) as file:
        head, made = file.read(16), file.seek(0)
        stream = _unpacking(file, head)
        while stream is not None and made <= _most(size):
            try:
                part = stream.read(CHUNK)
            except _DAMAGED:
                return True  # named where it is read
            made += len(part)
            taken = file.tell()  # some of it is read ahead
            if not part:
                return True
            if taken > _TRIED:
                return made < MOST_TIMES * taken
    return False


def _refuse_foreign(head: bytes, path: Path) -> None:
    for magic, name, hint in _FOREIGN:
        if head.startswith(magic):
            raise UserError(f"this is {name}, not text", where=path, hint=hint)
    if (
        len(head) > 2
        and head[0] == 0x80
        and head[1] in range(2, 6)
        and head[2:3] in (b"\x95", b"}", b"]", b"c", b"(", b"X", b"\x8a")
    ):
        hint = "congling never opens pickles, since they can run code; save the data as JSON lines"
        raise UserError("this is a Python pickle, not text", where=path, hint=hint)


def chunks(stream: IO[bytes], name: str, findings: ReadingLog) -> Iterator[bytes]:
    """Read in pieces; damage in the compression ends the reading and is named, what came before is kept."""
    while True:
        try:
            chunk = stream.read(CHUNK)
        except _DAMAGED as error:
            findings.problem("damaged compression", name, None, f"the rest of the file is not read: {error}")
            return
        if not chunk:
            return
        yield chunk


def head_of(path: Path, name: str) -> bytes:
    """The first bytes of a file, unpacked: enough to tell its encoding.

    A head of pure ASCII says little, so that the search goes on for the first other byte, up to 64 MB.
    """
    with opened(path) as stream:
        first = b""
        for number, chunk in enumerate(chunks(stream, name, ReadingLog())):
            first = first or chunk
            if not chunk.isascii():
                return chunk
            if number >= 256 or b"\0" in chunk:
                break
        return first


def encoding_of(path: Path, name: str, configured: str | None, *, json: bool = False) -> Encoding:
    """The configured encoding, or the one the file seems to have; JSON is UTF-8 rather than a mere guess.

    Raises:
        UserError: see :func:`congling.data.encoding.detect`.
    """
    head = head_of(path, name)
    if configured is None:
        found = encoding.detect(head, where=name)
        return Encoding("utf-8", 0, "usual for JSON") if json and found.guess else found
    chosen = encoding.named(configured)
    found = (
        encoding.detect(head, where=name)
        if head.startswith((codecs.BOM_UTF8, b"\xff\xfe", b"\xfe\xff"))
        else chosen
    )
    return Encoding(chosen.codec, found.mark if found.codec == chosen.codec else 0, chosen.why)


def lines(path: Path, name: str, found: Encoding, findings: ReadingLog, *, longest: int) -> Iterator[Line]:
    """Yield lines as bytes (UTF-16/32 becomes UTF-8), in parts of about ``longest`` bytes at most."""
    with opened(path) as stream:
        parts = chunks(stream, name, findings)
        parts = itertools.chain((next(parts, b"")[found.mark :],), parts)
        yield from _split(parts if found.by_lines else _as_utf8(parts, found, name, findings), longest)


def _split(parts: Iterator[bytes], longest: int) -> Iterator[Line]:
    number, rest = 1, bytearray()
    for part in parts:
        first, *others = part.split(b"\n")
        rest += first
        for data in others:
            yield Line(number, bytes(rest), True)
            number, rest = number + 1, bytearray(data)
        if len(rest) >= longest:
            yield Line(number, bytes(rest), False)
            rest = bytearray()
    if rest:
        yield Line(number, bytes(rest), True)


def _as_utf8(parts: Iterator[bytes], found: Encoding, name: str, findings: ReadingLog) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(found.codec)("replace")
    for part in parts:
        yield _checked(decoder.decode(part), name, findings)
    yield _checked(decoder.decode(b"", final=True), name, findings)


def _checked(text: str, name: str, findings: ReadingLog) -> bytes:
    if "\ufffd" in text:
        findings.problem(
            "invalid bytes",
            name,
            None,
            f"{text.count(chr(0xFFFD))} invalid UTF-16/32 units replaced by U+FFFD",
        )
    return text.encode("utf-8", "replace")


def codec_of_lines(found: Encoding) -> str:
    """The codec of what :func:`lines` yields."""
    return found.codec if found.by_lines else "utf-8"


def decoded(data: bytes, codec: str) -> tuple[str, str | None]:
    """Decode one line: its text with U+FFFD for what is invalid, and the reason (byte offset) or ``None``."""
    try:
        return data.decode(codec), None
    except UnicodeDecodeError as error:
        bad = data[error.start : error.start + 4].hex(" ")
        reason = f"byte {error.start + 1} of the line is not {codec} ({bad})"
        return data.decode(codec, "replace"), reason
