"""JSON whatever its shape: lines, an array or objects one after the other, or one object that holds records.

What a file is, is told by its beginning, not by its name: arrays are named ``.jsonl`` as often as lines
``.json``. Arrays and objects are read record by record.
"""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from congling.core.errors import UserError
from congling.data.config import DataConfig
from congling.data.encoding import Encoding
from congling.data.problems import FileNote, ReadingLog
from congling.data.sources import jsonl, rows, stream
from congling.data.sources.conversation import asks
from congling.data.sources.json_shapes import records_in

LARGEST_OBJECT = 64_000_000  # characters of a JSON document that is no array, which has to be held at once
_SPACE = " \t\n\r"


def read(
    path: Path, note: FileNote, config: DataConfig, findings: ReadingLog, take: rows.Take = rows.documents
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
    shape = _shape(text, lines=note.format != "json", decoder=jsonl.Decoder(note.file, ReadingLog()))
    if shape == "lines":
        note.format = "jsonl"
        yield from jsonl.read(path, note, config, findings, take)
        return
    note.format = "json"
    if shape == "object":
        records = _object(text, note.file, findings)
    else:
        records = _values(text, note.file, config, findings, array=shape == "array")
    yield from take(records, note, config, findings)


def _shape(text: "_Text", *, lines: bool, decoder: jsonl.Decoder) -> str:
    """What a file holds: ``lines``, an ``array``, ``values`` one after the other, or an ``object``.

    Args:
        text: at its first character.
        lines: what its name says.
        decoder: for its first value.
    """
    text.grow(stream.CHUNK)
    usual = "lines" if lines else "object"
    try:
        value, end = decoder.first(text.window)
    except (ValueError, RecursionError):  # broken, or longer than the window
        first = text.window.partition("\n")[0].strip()
        if first.startswith("[") and (not lines or first[1:].lstrip()[:1] in ("", "{")):
            return "array"
        return "values" if lines and first == "{" else usual
    after = text.window[end:]
    gap = after[: len(after) - len(after.lstrip(_SPACE + ","))]
    following, broken = after.lstrip(_SPACE + ",")[:1], "\n" in text.window[:end]
    if isinstance(value, list) and (not following or (not lines and following != "[")):
        return "object" if asks(value) else "array"  # a lone conversation, or records
    if not following:
        return "lines" if lines and not broken else "object"
    if isinstance(value, dict) and following == "{":
        return "lines" if "\n" in gap and not broken else "values"
    return "lines" if following == text.peek() and not broken else usual


class _Text:
    """Decoded text with a window that moves forward: the record being parsed is all that is held."""

    def __init__(self, path: Path, name: str, found: Encoding, findings: ReadingLog) -> None:
        self._parts = self._decoded(path, name, found, findings)
        self.window, self.done = "", False

    @staticmethod
    def _decoded(path: Path, name: str, found: Encoding, findings: ReadingLog) -> Iterator[str]:
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


def _values(
    text: _Text, file: str, config: DataConfig, findings: ReadingLog, *, array: bool
) -> Iterator[rows.Record]:
    """Values one after the other, as the items of an array or without anything around them."""
    text.take(array)
    decoder, number = jsonl.Decoder(file, findings), 0
    while text.more() and not (array and text.peek() == "]"):
        number += 1
        try:
            value = _next_value(text, decoder, config.largest_record)
        except (ValueError, RecursionError) as error:
            problem = f"{jsonl.why_invalid(error)}; the rest of the file is not read"
            if number == 1:
                hint = "one record a line? then name it .jsonl"
                raise UserError(f"not a JSON array: {problem}", where=file, hint=hint) from None
            findings.problem("broken record", file, number, problem)
            return
        decoder.name(number)
        yield rows.Record(number, value)
        if text.more() and text.peek() == ",":
            text.take(1)
        elif array and text.window and text.peek() != "]":
            findings.problem(
                "broken record", file, number, "no comma after it; the rest of the file is not read"
            )
            return
    if array and not text.window:
        findings.problem("broken record", file, number, "the file ends inside the array")


def _next_value(text: _Text, decoder: jsonl.Decoder, largest: int) -> Any:
    """Parse the value at the start of the window, doubling the window until it fits."""
    size = stream.CHUNK
    while True:
        whole = not text.grow(size)
        try:
            value, end = decoder.first(text.window)
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


def _object(text: _Text, file: str, findings: ReadingLog) -> Iterator[rows.Record]:
    """The records inside an object; see :mod:`json_shapes`."""
    if text.grow(LARGEST_OBJECT):
        raise UserError(
            "this JSON object is too large to read at once", where=file, hint="convert it to JSON lines"
        )
    decoder = jsonl.Decoder(file, findings)
    try:
        (value,) = decoder.values(text.window.rstrip(_SPACE))
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"not a JSON file: {jsonl.why_invalid(error)}",
            where=file,
            hint="one record a line? then name it .jsonl",
        ) from None
    decoder.name(1)
    if not isinstance(value, dict | list):
        raise UserError("a JSON file holds an array or an object of records", where=file)
    found = records_in(value, file, findings) if isinstance(value, dict) else [value]
    for number, item in enumerate(found, 1):
        yield rows.Record(number, item)
