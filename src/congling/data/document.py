"""The one record that flows through the data side, stored as a line of JSON in a .jsonl.zst file."""

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import zstandard

from congling.core import files
from congling.core.errors import UserError
from congling.data.problems import Place

LARGEST_WINDOW = 2**27  # bytes; refuses zstd frames that ask a reader for gigabytes of history


@dataclass(frozen=True, slots=True)
class Document:
    """A text that belongs together: a chapter, an article, a poem, a dictionary entry."""

    text: str
    id: str
    """Where it came from: ``book.txt:89`` (file and line), ``rows.parquet:17`` (file and row)."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Small JSON values such as the title; never needed for training."""
    place: Place | None = None
    """The file and line behind :attr:`id`, where the reader knows them."""


class DocumentWriter(AbstractContextManager["DocumentWriter"]):
    """Write documents (with extra keys, such as the reason of a drop) as compressed JSON lines."""

    def __init__(self, path: Path | str) -> None:
        self._file = Path(path).open("wb")  # noqa: SIM115  closed by __exit__
        self._stream = zstandard.ZstdCompressor(level=3).stream_writer(self._file, closefd=False)
        self.count = 0

    def write(self, document: Document, **extra: Any) -> None:
        """Append one document; ``extra`` keys stand beside ``id``, ``text`` and ``meta`` in its line."""
        row = {"id": document.id, "text": document.text, "meta": dict(document.meta), **extra}
        self._stream.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        self.count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stream.close()
        except BaseException:
            with suppress(OSError):  # on a full disk it fails again, and is closed all the same
                self._file.close()
            raise
        self._file.close()

    def __enter__(self) -> Self:
        return self


def read_rows(path: Path | str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a ``.jsonl.zst`` file that :class:`DocumentWriter` wrote, one at a time.

    Raises:
        UserError: the file is missing, damaged, or holds something else.
    """
    path = Path(path)
    try:
        with files.opened(path) as file:
            stream = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW).stream_reader(file)
            lines = io.TextIOWrapper(stream, encoding="utf-8", newline="\n")
            for line in lines:
                yield json.loads(line)
    except OSError as error:
        raise UserError("cannot read the documents", where=path, value=error.strerror) from None
    except (zstandard.ZstdError, ValueError, RecursionError) as error:
        hint = "make the documents again"
        raise UserError(f"the documents are damaged ({error})", where=path, hint=hint) from None


def read_documents(path: Path | str) -> Iterator[Document]:
    """Yield the documents of one ``.jsonl.zst`` file, in the order in which they were written.

    Raises:
        UserError: the file is missing, damaged, or holds something else.
    """
    for row in read_rows(path):
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise UserError("a line is no document", where=path, hint="make the documents again")
        yield Document(row["text"], str(row.get("id", "")), row.get("meta") or {})
