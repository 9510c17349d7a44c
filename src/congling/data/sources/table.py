"""CSV and TSV with a header line, in any encoding."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from congling.core.errors import UserError
from congling.data.config import DataConfig
from congling.data.findings import FileNote, Findings
from congling.data.sources import rows, stream


def read(
    path: Path, note: FileNote, config: DataConfig, findings: Findings, take: rows.Take = rows.documents
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

    def __init__(self, path: Path, note: FileNote, config: DataConfig, findings: Findings) -> None:
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


def _records(lines: _Lines, note: FileNote, config: DataConfig, findings: Findings) -> Iterator[rows.Record]:
    csv.field_size_limit(
        config.largest_record
    )  # against a quote that is never closed; the default is too small for text
    header_line = next(lines, "").strip("\r\n\ufeff")
    delimiter = "\t" if note.format == "tsv" else max(",;\t|", key=header_line.count)
    try:
        header = [name.strip() for name in next(csv.reader([header_line], delimiter=delimiter), [])]
    except csv.Error:
        header = [""]  # a carriage return within the line: whatever this is, it names no columns
    if not header:
        return
    if len(set(header)) != len(header) or not all(header):
        raise UserError(
            "the first row does not name the columns",
            where=note.file,
            value=header_line[:80],
            hint="add a row of distinct column names, or convert the file to plain text",
        )
    while True:
        start = lines.number + 1
        try:
            for row in csv.reader(lines, delimiter=delimiter):
                if len(row) == len(header):
                    yield rows.Record(start, dict(zip(header, row, strict=True)))
                elif row:
                    findings.problem(
                        "broken record", note.file, start, f"{len(row)} columns instead of {len(header)}"
                    )
                start = lines.number + 1
            return
        except csv.Error as error:
            findings.problem("broken record", note.file, start, str(error))
