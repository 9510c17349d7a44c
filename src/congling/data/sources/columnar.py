"""Parquet and Arrow files, through the optional pyarrow."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from congling.core import files
from congling.core.errors import UserError
from congling.data.config import DataConfig
from congling.data.problems import FileNote, ReadingLog
from congling.data.sources import rows
from congling.data.sources.stream import MOST_TIMES, MOST_UNPACKED

ROWS = 256  # rows decoded at a time
_AT_ONCE = 1 << 25  # bytes of them
_DENSE, _USUAL = 20, 1 << 22  # times that text is packed at most; bytes of a long value of text so packed


def read(
    path: Path, note: FileNote, config: DataConfig, findings: ReadingLog, take: rows.Take = rows.documents
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
        files.opened(path).close()
        for batch in _batches(path, note):
            for value in batch.to_pylist():
                number += 1
                yield rows.Record(number, value)
    except (pa.ArrowException, OSError, ValueError, MemoryError, RecursionError) as error:
        reason = str(error).split("\n")[0][:120]
        raise UserError(
            f"the file is damaged after row {number}: {reason}", where=note.file, hint="get the file again"
        ) from None


def _batches(path: Path, note: FileNote) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if note.format == "parquet":
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=_rows_at_once(file, note))
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


def _rows_at_once(file: Any, note: FileNote) -> int:
    """Rows to decode at a time: fewer where a long value may stand in many rows, which takes nothing in the
    file and much in memory.

    Raises:
        UserError: all of them take far more than any text does.
    """
    shared, longest = dict[str, int](), 1
    for group in range(file.metadata.num_row_groups):
        part = file.metadata.row_group(group)
        for column in map(part.column, range(part.num_columns)):
            size, stored = column.total_uncompressed_size, column.total_compressed_size
            if size > MOST_UNPACKED + MOST_TIMES * stored:
                raise _bomb(note)
            if any("DICTIONARY" in one for one in column.encodings):
                name = column.path_in_schema
                shared[name] = max(shared.get(name, 0), size)
                longest = max(longest, size if size > _DENSE * stored else min(size, _USUAL))
    most = max(MOST_UNPACKED, MOST_TIMES * note.bytes)
    if file.metadata.num_rows * sum(shared.values()) <= most:
        return ROWS
    count, made, largest = max(1, min(ROWS, _AT_ONCE // longest)), 0, 1
    for batch in file.iter_batches(batch_size=count, columns=list(shared)):
        size = sum(map(_bytes, batch.columns))
        made, largest = made + size, max(largest, size)
        if made > most:
            raise _bomb(note)
    return max(1, min(ROWS, count * _AT_ONCE // largest))


def _bytes(column: Any) -> int:
    """Bytes of the values of a column, of those that share one as often as they stand there."""
    import pyarrow as pa
    from pyarrow import compute

    if not pa.types.is_dictionary(column.type):
        return column.nbytes
    values = column.dictionary
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        return column.nbytes
    pc: Any = compute  # its functions are made when it is loaded: type checkers see none
    return pc.sum(pc.take(pc.binary_length(values), column.indices)).as_py() or 0


def _bomb(note: FileNote) -> UserError:
    return UserError(f"this file unpacks to more than {MOST_TIMES} times its size", where=note.file)
