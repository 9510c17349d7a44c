"""One JSON document: an array of records, read record by record; or an object that holds them."""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from congling.core.errors import UserError
from congling.data.config import DataConfig
from congling.data.encoding import Encoding
from congling.data.findings import FileNote, Findings
from congling.data.sources import jsonl, rows, stream

LARGEST_OBJECT = 64_000_000  # characters of a JSON document that is no array, which has to be held at once
_DECODER = json.JSONDecoder(parse_constant=jsonl.refuse_constant)
_SPACE = " \t\n\r"


def read(
    path: Path, note: FileNote, config: DataConfig, findings: Findings, take: rows.Take = rows.documents
) -> Iterator[Any]:
    """Yield the documents (or what ``take`` makes of the records) of a JSON file.

    After a syntax error what came before it is kept.

    Raises:
        UserError: the file is no JSON from its first record on, or an object too large to hold.
    """
    found = stream.encoding_of(path, note.file, config.encoding, json=True)
    note.encoding, note.encoding_why = found.codec, found.why
    text = _Text(path, note.file, found, findings)
    if not text.more():
        findings.problem("empty file", note.file, None, "nothing in it")
        return
    if text.peek() == "[":
        yield from take(_array(text, note.file, config, findings), note, config, findings)
    elif text.is_lines():  # JSON lines under the wrong name
        note.format = "jsonl"
        yield from jsonl.read(path, note, config, findings, take)
    else:
        yield from take(_object(text, note.file), note, config, findings)


class _Text:
    """Decoded text with a window that moves forward: the record being parsed is all that is held."""

    def __init__(self, path: Path, name: str, found: Encoding, findings: Findings) -> None:
        self._parts = self._decoded(path, name, found, findings)
        self.window, self.done = "", False

    @staticmethod
    def _decoded(path: Path, name: str, found: Encoding, findings: Findings) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder(found.codec)("replace")
        with stream.opened(path) as file:
            for part in stream.chunks(file, name, findings):
                yield decoder.decode(part).removeprefix("\ufeff")
            yield decoder.decode(b"", final=True)

    def grow(self, size: int) -> bool:
        """Read until the window holds ``size`` characters; false when the file ends before."""
        parts = [self.window]
        length = len(self.window)
        while length < size and not self.done:
            part = next(self._parts, None)
            self.done = part is None
            parts.append(part or "")
            length += len(part or "")
        self.window = "".join(parts)
        return length >= size

    def more(self) -> bool:
        """Skip white space; false at the end of the file."""
        while True:
            self.window = self.window.lstrip(_SPACE)
            if self.window or self.done:
                return bool(self.window)
            self.grow(stream.CHUNK)

    def peek(self) -> str:
        return self.window[0]

    def take(self, count: int) -> None:
        self.window = self.window[count:]

    def is_lines(self) -> bool:
        """Whether the first line is a whole object and another one follows."""
        self.grow(stream.CHUNK)
        try:
            _, end = _DECODER.raw_decode(self.window)
        except (ValueError, RecursionError):
            return False
        return self.window[end:].lstrip(_SPACE).startswith("{")


def _array(text: _Text, file: str, config: DataConfig, findings: Findings) -> Iterator[rows.Record]:
    text.take(1)
    number = 0
    while text.more() and text.peek() != "]":
        number += 1
        try:
            value = _next_value(text, config.largest_record)
        except (ValueError, RecursionError) as error:
            problem = f"{jsonl.why_invalid(error)}; the rest of the file is not read"
            if number == 1:
                hint = "one record a line? then name it .jsonl"
                raise UserError(f"not a JSON array: {problem}", where=file, hint=hint) from None
            findings.problem("broken record", file, number, problem)
            return
        yield rows.Record(number, value)
        if text.more() and text.peek() == ",":
            text.take(1)
        elif text.window and text.peek() != "]":
            findings.problem(
                "broken record", file, number, "no comma after it; the rest of the file is not read"
            )
            return
    if not text.window:
        findings.problem("broken record", file, number, "the file ends inside the array")


def _next_value(text: _Text, largest: int) -> Any:
    """Parse the value at the start of the window, doubling the window until it fits."""
    size = stream.CHUNK
    while True:
        whole = not text.grow(size)
        try:
            value, end = _DECODER.raw_decode(text.window)
        except json.JSONDecodeError as error:
            if whole:
                raise
            if size > largest:
                raise ValueError(
                    f"a record over {largest} characters, or a syntax error ({error.msg})"
                ) from None
            size *= 2
            continue
        if end == len(text.window) and not whole:  # a number may go on in the next part
            size = end + stream.CHUNK
            continue
        text.take(end)
        return value


def _object(text: _Text, file: str) -> Iterator[rows.Record]:
    """The records inside an object: its longest list, its entries when all are strings, or itself."""
    if text.grow(LARGEST_OBJECT):
        raise UserError(
            "this JSON object is too large to read at once", where=file, hint="convert it to JSON lines"
        )
    try:
        value = jsonl.loads(text.window)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"not a JSON file: {jsonl.why_invalid(error)}",
            where=file,
            hint="one record a line? then name it .jsonl",
        ) from None
    if not isinstance(value, dict):
        raise UserError("a JSON file holds an array or an object of records", where=file)
    lists = [item for item in value.values() if isinstance(item, list) and item and isinstance(item[0], dict)]
    if lists:
        found: list[Any] = max(lists, key=len)
    elif len(value) > 3 and all(isinstance(item, str) for item in value.values()) and "text" not in value:
        found = [{"title": key, "definition": item} for key, item in value.items()]
    else:
        found = [value]
    for number, item in enumerate(found, 1):
        yield rows.Record(number, item)
