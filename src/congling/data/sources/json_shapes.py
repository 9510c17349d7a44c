"""What one JSON value holds: its records, in the shapes programs write tables and splits in.

=============  ================================================================================
by column      ``{"question": ["…", "…"], "answer": ["…", "…"]}``; pandas' ``{"question": {"0": "…"}}``
split          ``{"columns": […], "data": [[…], […]]}`` (pandas)
parts          ``{"train": […], "test": […]}``: train is read, the others are named
by id          ``{"17": {…}, "18": {…}}``
list           ``{"version": 1, "data": [{…}, {…}]}``: its longest list of objects
dictionary     ``{"云": "水气。", …}``: headwords and what they mean
=============  ================================================================================
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from congling.data.problems import ReadingLog
from congling.data.sources.conversation import asks
from congling.data.sources.names import TALK

_TRAIN = ("train", "training", "训练集")
Value = Mapping[str, Any]


def records_in(value: Value, file: str, findings: ReadingLog) -> Sequence[Any]:
    """The records inside an object, or the object as the only one; what is not read is named."""
    part = next((value[name] for name in _TRAIN if isinstance(value.get(name), Mapping)), None)
    if part is not None and not asks(value):
        _name_rest(value, part, file, findings)
        return records_in(part, file, findings)
    for shape in (_columns, _split, _indexed, _parts, _row, _longest, _by_id, _dictionary):
        found = shape(value)
        if found is not None:
            _name_rest(value, found, file, findings)
            return [item["row"] if _is_wrapped(item) else item for item in found]
    return [value]


def _row(value: Value) -> list[Any] | None:
    """The object itself, where it is a row."""
    return [value] if asks(value) else None


def _by_id(value: Value) -> list[Any] | None:
    """Rows under their ids."""
    rows = list(value.values())
    return rows if len(rows) > 1 and all(isinstance(row, Mapping) for row in rows) else None


def _dictionary(value: Value) -> list[Any] | None:
    """Headwords and what they mean."""
    if len(value) <= 3 or "text" in value or not all(isinstance(item, str) for item in value.values()):
        return None
    return [{"title": key, "definition": item} for key, item in value.items()]


def _columns(value: Value) -> list[Any] | None:
    """Rows of lists of equal length, one a column."""
    columns = list(value.values())
    if not all(isinstance(column, list) and len(column) > 1 for column in columns):
        return None
    alike = len({len(column) for column in columns}) == 1
    plain = not any(isinstance(item, Mapping) for column in columns for item in column)
    texts = value.keys() <= {*TALK} and any(isinstance(item, str) for column in columns for item in column)
    if not columns or not alike or not plain or texts:  # texts under such a name are turns
        return None
    return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]


def _split(value: Value) -> list[Any] | None:
    """Rows of lists, whose names stand apart."""
    names, data = value.get("columns"), value.get("data")
    if not isinstance(names, list) or not isinstance(data, list):
        return None
    if not all(isinstance(row, list) and len(row) == len(names) for row in data):
        return None
    return [dict(zip(map(str, names), row, strict=True)) for row in data]


def _indexed(value: Value) -> list[Any] | None:
    """Rows of objects, one a column, whose keys are the numbers of rows."""
    columns = list(value.values())
    if not columns or not all(isinstance(column, Mapping) and column for column in columns):
        return None
    index = columns[0].keys()
    numbered = all(str(key).isdecimal() for key in index)
    if not numbered or any(column.keys() != index for column in columns):
        return None
    return [{name: column[key] for name, column in value.items()} for key in index]


def _parts(value: Value) -> list[Any] | None:
    """The training part of a data set in one file."""
    return next((part for name in _TRAIN if isinstance(part := value.get(name), list)), None)


def _longest(value: Value) -> list[Any] | None:
    lists = [item for item in value.values() if isinstance(item, list) and item and isinstance(item[0], dict)]
    return max(lists, key=len, default=None)


def _is_wrapped(item: Any) -> bool:
    """Whether a row is kept with its number, as data set viewers give it out."""
    return isinstance(item, Mapping) and "row_idx" in item and isinstance(item.get("row"), Mapping)


def _name_rest(value: Value, found: Any, file: str, findings: ReadingLog) -> None:
    """Name other lists of records beside the one that is read."""
    for name, item in _others(value, found):
        count = f"{len(item):,} records" if isinstance(item, list) else "records"
        reason = f"{name!r} holds {count} beside those that are read; give them a file of their own"
        findings.problem("part that is not read", file, None, reason)


def _others(value: Value, found: Any) -> Iterator[tuple[str, Any]]:
    """Other lists of records; beside a part that is an object, other objects."""
    if isinstance(found, list) and found and found[0] is value:
        return
    for name, item in value.items():
        records = isinstance(item, list) and item and isinstance(item[0], Mapping)
        if item is not found and (records or (isinstance(found, Mapping) and isinstance(item, Mapping))):
            yield name, item
