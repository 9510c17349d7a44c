"""From a record (JSON object, table row) to text: one layout for a whole file, told by its first records.

A layout is fixed once for a file, so that a record which lacks the field is named instead of being read some
other way.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from congling.data.config import DataConfig
from congling.data.document import Document
from congling.data.problems import FileNote, Place, ReadingLog
from congling.data.segmenter import cut
from congling.data.separators import divided, separator_of
from congling.data.sources import layouts

TABLES = ("csv", "tsv")
LOOK = 50  # records looked at before the layout is fixed
LARGEST_PIECE = 1_000_000  # characters


@dataclass(frozen=True, slots=True)
class Record:
    """A record and where it stands."""

    place: int
    """Line or row, from 1."""
    value: Any


Take = Callable[[Iterable[Record], FileNote, DataConfig, ReadingLog], Iterator[Any]]
"""What is made of the records of one file: documents, or conversations."""


def documents(
    records: Iterable[Record], note: FileNote, config: DataConfig, findings: ReadingLog
) -> Iterator[Document]:
    """Turn the records of one file into documents; those without text are named and counted.

    Raises:
        UserError: no usual layout fits, or the configured template is malformed.
    """
    stream = iter(records)
    first = list(islice(stream, LOOK))
    if not first:
        findings.problem("empty file", note.file, None, "no record in it")
        return
    layout = (
        layouts.configured(config.text)
        if config.text
        else layouts.recognised([record.value for record in first], note.file, table=note.format in TABLES)
    )
    note.choice = layout.name
    note.why = "as configured" if config.text else "recognised from its first records"
    separator = config.separator or separator_of(_texts(layout, first))
    if separator:
        findings.notes.append(f"texts of {note.file} are divided at {separator!r}, which is left out")
    for record in chain(first, stream):
        place = Place(note.file, record.place)
        try:
            text = layout.render(record.value)
            if not text.strip():
                raise ValueError("its text is empty")
        except ValueError as error:
            findings.problem("record without text", *place, str(error))
            continue
        for found in layout.unread(record.value, text):
            findings.unread.add(found, str(place))
        parts = divided(text, separator) if separator else [text]
        for part in parts:
            findings.foreign_tokens.look(part, str(place))
        pieces = (piece for part in parts for piece in cut(part, LARGEST_PIECE))
        for number, piece in enumerate(pieces):
            yield Document(piece, f"{place}.{number}" if number else str(place), _meta(record.value), place)


def _texts(layout: layouts.Layout, records: Iterable[Record]) -> Iterator[str]:
    """What can be read of records."""
    for record in records:
        with contextlib.suppress(ValueError):
            yield layout.render(record.value)


def _meta(value: Any) -> dict[str, Any]:
    """The small scalar fields worth keeping: names, titles, sources."""
    if not isinstance(value, Mapping):
        return {}
    kept = {key: value.get(key) for key in ("id", "title", "source", "author", "category", "of")}
    return {key: item for key, item in kept.items() if isinstance(item, (str, int)) and len(str(item)) <= 200}
