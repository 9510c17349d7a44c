"""JSON lines: one record a line, lines end at LF alone; a faulty line is named and the next one is read."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from congling.data.config import DataConfig
from congling.data.findings import FileNote, Findings
from congling.data.sources import rows, stream


def read(
    path: Path, note: FileNote, config: DataConfig, findings: Findings, take: rows.Take = rows.documents
) -> Iterator[Any]:
    """Yield the documents (or what ``take`` makes of the records) of a JSON lines file.

    A mark (BOM) or white space around a record is harmless and accepted; NaN, comments, trailing commas,
    single quotes and several records on a line are no JSON, and are skipped.

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
            value = _parsed(line, codec, note.file, findings)
            if value is not None:
                yield rows.Record(line.number, value)

    yield from take(records(), note, config, findings)


def _parsed(line: stream.Line, codec: str, file: str, findings: Findings) -> Any:
    """The record of one line, or ``None`` after naming what is wrong with it."""
    text, reason = stream.decoded(line.data, codec)
    if reason:
        findings.problem("invalid bytes", file, line.number, f"{reason}; line skipped")
        return None
    text = text.strip(" \t\r\n\ufeff")
    if not text:
        findings.problem("blank line", file, line.number, "nothing on it")
        return None
    try:
        value = loads(text)
    except (ValueError, RecursionError) as error:
        findings.problem("broken record", file, line.number, why_invalid(error))
        return None
    if not isinstance(value, (dict, str)):
        findings.problem("broken record", file, line.number, "a list, number or null instead of an object")
        return None
    return value


def loads(text: str) -> Any:
    """Parse strict JSON (RFC 8259): no NaN or Infinity.

    Raises:
        ValueError: it is no JSON.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, parse_constant=refuse_constant)


def refuse_constant(name: str) -> NoReturn:
    """Reject NaN and the infinities, which Python's parser would take."""
    raise ValueError(f"{name} is no JSON value")


def why_invalid(error: Exception) -> str:
    """One short reason for a person."""
    if isinstance(error, json.JSONDecodeError):
        return f"no valid JSON: {error.msg.removesuffix(' at')} at character {error.colno}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error).split(":")[0]
