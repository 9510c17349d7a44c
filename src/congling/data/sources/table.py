"""CSV and TSV with a header line, in any encoding."""

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from congling.core.errors import UserError
from congling.core.units import plural
from congling.data.config import DataConfig
from congling.data.problems import FileNote, ReadingLog
from congling.data.sources import rows, stream


def read(
    path: Path, note: FileNote, config: DataConfig, findings: ReadingLog, take: rows.Take = rows.documents
) -> Iterator[Any]:
    """Yield the documents (or what ``take`` makes of the records) of a table with a row of names.

    Raises:
        UserError: the file is no text, or its columns are unknown.
    """
    found = stream.encoding_of(path, note.file, config.encoding)
    note.encoding, note.encoding_why = found.codec, found.why
    yield from take(
        _records(_Lines(path, note, config, findings), note, config, findings), note, config, findings
    )


class _Lines:
    """Decoded lines for the csv module, which needs their ends; remembers the number of the last one."""

    def __init__(self, path: Path, note: FileNote, config: DataConfig, findings: ReadingLog) -> None:
        self._found = stream.encoding_of(path, note.file, config.encoding)
        self._codec = stream.codec_of_lines(self._found)
        self._lines = stream.lines(path, note.file, self._found, findings, longest=config.largest_record)
        self._file, self._findings = note.file, findings
        self.number = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number = line.number
        if not line.ends:
            while not next(self._lines).ends:
                pass
            raise csv.Error("a line over the limit (largest_record)")
        text, reason = stream.decoded(line.data, self._codec)
        if reason:
            self._findings.problem("invalid bytes", self._file, line.number, f"{reason}; replaced by U+FFFD")
        return text.replace("\0", "") + "\n"


def _records(
    lines: _Lines, note: FileNote, config: DataConfig, findings: ReadingLog
) -> Iterator[rows.Record]:
    csv.field_size_limit(
        min(config.largest_record, 2**31 - 1)
    )  # against a quote that is never closed; the default is too small for text
    first = _first_line(lines)
    given = re.fullmatch(r"sep=(.)", first)  # what Excel writes first of all
    header_line = _first_line(lines) if given else first
    delimiter = given[1] if given else "\t" if note.format == "tsv" else max(",;\t|", key=header_line.count)
    try:
        header = [name.strip() for name in next(csv.reader([header_line], delimiter=delimiter), [])]
    except csv.Error:
        header = [""]  # a carriage return within the line: whatever this is, it names no columns
    if not header:
        return
    if not any(header):
        raise UserError(
            "the first row does not name the columns",
            where=note.file,
            value=header_line[:80],
            hint="add a row of column names, or convert the file to plain text",
        )
    names = _distinct(header)
    while True:
        start = lines.number + 1
        try:
            for row in csv.reader(lines, delimiter=delimiter):
                fitted = _fitted(row, header)
                if len(fitted) == len(names):
                    yield rows.Record(start, dict(zip(names, fitted, strict=True)))
                elif any(row):
                    reason = f"{len(row)} {plural(len(row), 'column')} instead of {len(header)}"
                    findings.problem("broken record", note.file, start, reason)
                start = lines.number + 1
            return
        except csv.Error as error:
            findings.problem("broken record", note.file, start, str(error))


def _first_line(lines: _Lines) -> str:
    """The next line that is not blank."""
    return next((line for line in (text.strip("\r\n\ufeff") for text in lines) if line.strip()), "")


def _distinct(header: Sequence[str]) -> list[str]:
    """A name for every column: those without one are numbered, as is one that comes again."""
    names: list[str] = []
    for number, name in enumerate(header, 1):
        again = header[: number - 1].count(name)
        names.append(f"unnamed {number}" if not name else f"{name} ({again + 1})" if again else name)
    return names


def _fitted(row: list[str], header: Sequence[str]) -> list[str]:
    """A row with as many cells as there are columns, where only empty ones or unnamed columns differ."""
    beyond, missing = row[len(header) :], header[len(row) :]
    if beyond and not any(cell.strip() for cell in beyond):
        return row[: len(header)]
    return [*row, *missing] if row and missing and not any(missing) else row
