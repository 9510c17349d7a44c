"""Parquet and Arrow files, through the optional pyarrow."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from congling.core.errors import UserError
from congling.data.config import DataConfig
from congling.data.findings import FileNote, Findings
from congling.data.sources import rows

ROWS = 256  # rows decoded at a time


def read(
    path: Path, note: FileNote, config: DataConfig, findings: Findings, take: rows.Take = rows.documents
) -> Iterator[Any]:
    """Yield the documents (or what ``take`` makes of the records) of a columnar file.

    Raises:
        UserError: pyarrow is not installed, or the file is damaged.
    """
    yield from take(_records(path, note), note, config, findings)


def _records(path: Path, note: FileNote) -> Iterator[rows.Record]:
    try:
        import pyarrow as pa
    except ImportError:
        hint = 'install it: pip install "congling[data]"'
        raise UserError("reading Parquet and Arrow files needs pyarrow", where=note.file, hint=hint) from None
    number = 0
    try:
        for batch in _batches(path, note.format):
            for value in batch.to_pylist():
                number += 1
                yield rows.Record(number, value)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).split("\n")[0][:120]
        raise UserError(
            f"the file is damaged after row {number}: {reason}", where=note.file, hint="get the file again"
        ) from None


def _batches(path: Path, kind: str) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if kind == "parquet":
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=ROWS)
        return
    with pa.memory_map(str(path)) as source:
        try:
            reader = pa.ipc.open_file(source)
            batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
        except pa.ArrowInvalid:  # the streaming layout of the same format, which datasets libraries write
            source.seek(0)
            batches = iter(pa.ipc.open_stream(source))
        for batch in batches:
            for start in range(0, batch.num_rows, ROWS):
                yield batch.slice(start, ROWS)
