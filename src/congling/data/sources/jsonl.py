"""JSON lines: one record a line, lines end at LF alone; a faulty line is named and the next one is read."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from congling.data.config import DataConfig
from congling.data.problems import FileNote, ReadingLog
from congling.data.sources import rows, stream
from congling.data.sources.conversation import asks


def read(
    path: Path, note: FileNote, config: DataConfig, findings: ReadingLog, take: rows.Take = rows.documents
) -> Iterator[Any]:
    """Yield the documents (or what ``take`` makes of the records) of a JSON lines file.

    A mark (BOM) or white space around a record is harmless and accepted, so are a comma behind it and several
    records on a line; NaN is read as null, and named. Comments, trailing commas within a record and single
    quotes are no JSON, and their lines are skipped.

    Raises:
        UserError: the file is no text, or the layout of its records is unknown.
    """
    found = stream.encoding_of(path, note.file, config.encoding, json=True)
    note.encoding, note.encoding_why = found.codec, found.why
    codec = stream.codec_of_lines(found)
    skipping = 0

    def records() -> Iterator[rows.Record]:
        nonlocal skipping
        for line in stream.lines(path, note.file, found, findings, longest=config.largest_record):
            if not line.ends or line.number == skipping:
                if line.number != skipping:
                    reason = f"over {config.largest_record} bytes (largest_record)"
                    findings.problem("record too large", note.file, line.number, reason)
                skipping = line.number
                continue
            for value in _parsed(line, codec, note.file, findings):
                yield rows.Record(line.number, value)

    yield from take(records(), note, config, findings)


def _parsed(line: stream.Line, codec: str, file: str, findings: ReadingLog) -> Iterator[Any]:
    """The records of one line; none after naming what is wrong with it."""
    text, reason = stream.decoded(line.data, codec)
    if reason:
        findings.problem("invalid bytes", file, line.number, f"{reason}; line skipped")
        return
    text = text.strip(" \t\r\n\ufeff")
    if not text:
        findings.problem("blank line", file, line.number, "nothing on it")
        return
    decoder = Decoder(file, findings)
    try:
        values = decoder.values(text)
    except (ValueError, RecursionError) as error:
        findings.problem("broken record", file, line.number, why_invalid(error))
        return
    decoder.name(line.number)
    for value in values:
        if isinstance(value, dict | str) or asks(value):
            yield value
        else:
            reason = "a list, number or null instead of an object"
            findings.problem("broken record", file, line.number, reason)


class Decoder:
    """Strict JSON (RFC 8259), but for NaN and the infinities, which are read as null and named."""

    def __init__(self, file: str, findings: ReadingLog) -> None:
        self._file, self._findings = file, findings
        self._constants: list[str] = []
        self._decoder = json.JSONDecoder(parse_constant=self._constants.append)

    def first(self, text: str) -> tuple[Any, int]:
        """The value a text begins with, and where it ends.

        Raises:
            ValueError: it is no JSON.
            RecursionError: it is nested too deeply.
        """
        self._constants.clear()
        return self._decoder.raw_decode(text)

    def values(self, text: str) -> list[Any]:
        """The value of a text; or several objects one after the other, commas between them or not.

        Raises:
            ValueError: it is no JSON.
            RecursionError: it is nested too deeply.
        """
        self._constants.clear()
        try:
            return [self._decoder.decode(text)]
        except json.JSONDecodeError as error:
            found, rest = list[Any](), text
            while rest:
                try:
                    value, end = self._decoder.raw_decode(rest)
                except ValueError:
                    raise error from None
                rest = rest[end:].lstrip().removeprefix(",").lstrip()
                found.append(value)
            if not all(isinstance(value, dict) for value in found):
                raise
            return found

    def name(self, line: int) -> None:
        """Tell of constants that were read as null since the last value."""
        for name in dict.fromkeys(self._constants):
            self._findings.problem("NaN", self._file, line, f"{name} is no JSON value; it is read as null")
        self._constants.clear()


def why_invalid(error: Exception) -> str:
    """One short reason for a person."""
    if isinstance(error, json.JSONDecodeError):
        return f"no valid JSON: {error.msg.removesuffix(' at')} at character {error.colno}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error).split(":")[0]
