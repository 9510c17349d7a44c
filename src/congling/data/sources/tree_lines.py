"""Messages of conversations, one a line (OpenAssistant), put together to trees (``trees``).

::

    {"message_id": "a", "parent_id": null, "role": "prompter", "text": "问"}
    {"message_id": "b", "parent_id": "a", "role": "assistant", "text": "答", "rank": 0}
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from congling.data.sources.rows import Record
from congling.data.sources.trees import REPLIES

_LINE = frozenset(("message_id", "parent_id", "role", "text"))


def grown(records: Iterable[Record]) -> Iterator[Record]:
    """The records; where they are single messages of trees, the trees, each where its root stands.

    A message whose parent is in no line begins a tree of its own; one that no root leads to, or whose id was
    there before, stays a record by itself.
    """
    stream = iter(records)
    first = next(stream, None)
    if first is None:
        return
    records = chain((first,), stream)
    if not _is_line(first.value):
        yield from records
        return
    nodes: dict[Any, tuple[Record, dict[str, Any]]] = {}
    others: list[Record] = []
    for record in records:
        if _is_line(record.value) and record.value["message_id"] not in nodes:
            nodes[record.value["message_id"]] = record, {**record.value, REPLIES: []}
        else:
            others.append(record)
    roots: list[Record] = []
    for record, node in nodes.values():
        parent = nodes.get(node["parent_id"]) if isinstance(node["parent_id"], str | int) else None
        if parent is None:
            roots.append(Record(record.place, node))
        else:
            parent[1][REPLIES].append(node)
    reached = _ids(root.value for root in roots)
    others += [record for key, (record, _) in nodes.items() if key not in reached]
    yield from sorted((*roots, *others), key=lambda record: record.place)


def _is_line(value: Any) -> bool:
    there = isinstance(value, Mapping) and value.keys() >= _LINE and REPLIES not in value
    return there and isinstance(value["message_id"], str | int)


def _ids(nodes: Iterable[Mapping[str, Any]]) -> set[Any]:
    """Of all messages that these lead to."""
    waiting, found = list(nodes), set()
    while waiting:
        node = waiting.pop()
        found.add(node["message_id"])
        waiting += node[REPLIES]
    return found
