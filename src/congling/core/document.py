"""What a subcommand prints with ``--json``: one document on standard output, and nothing else there.

::

    with only_document(asked):         tables, notes, progress ─→ standard error
        print_document(found)          {"loss": 1.25, …}       ─→ standard output

Numbers stand in full; where there is no finite number, ``null`` does. Errors are told on standard error, and
the document is then missing.
"""

import contextlib
import dataclasses
import json
import math
import sys
from collections.abc import Generator, Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, TextIO, cast

from congling.core.machine import is_first_process
from congling.core.text import printable_json

_document: TextIO | None = None
"""Where the document of a verb goes; ``None``: to standard output, like everything else."""


@contextlib.contextmanager
def only_document(asked: bool) -> Generator[None, None, None]:
    """Within the block standard output takes one document alone: what else is printed goes to standard error.

    ``asked`` false: nothing is different.
    """
    global _document
    if not asked:
        yield
        return
    before, _document = _document, sys.stdout
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _document = before


def print_document(value: Any) -> None:
    """Print a value as one JSON document: numbers in full, ``null`` for what is not finite.

    Takes what :func:`plain` takes. Where standard output is not in UTF-8, all but ASCII is escaped.
    Of several processes that train together, the first alone prints.
    """
    if not is_first_process():
        return
    stream = _document or sys.stdout
    utf8 = (getattr(stream, "encoding", None) or "").lower().replace("-", "") == "utf8"
    text = json.dumps(plain(value), ensure_ascii=not utf8, indent=1, allow_nan=False)
    stream.write(printable_json(text) + "\n")
    stream.flush()


def plain(value: Any) -> Any:
    """A value as JSON has it.

    Tables and lists of any kind, dataclasses, configurations, whatever has ``to_json()``, numbers of NumPy
    and torch, paths; NaN and infinity, which JSON does not have, become ``None``.

    >>> plain({"out": Path("runs"), "loss": float("nan"), "sizes": (1, 2.5)})
    {'out': 'runs', 'loss': None, 'sizes': [1, 2.5]}

    Raises:
        TypeError: JSON has nothing for it.
    """
    if value is None or isinstance(value, (bool, str)):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, (int, float)):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in cast(Mapping[Any, Any], value).items()}
    inner = _opened(value)
    return [plain(item) for item in cast(list[Any], inner)] if isinstance(inner, list) else plain(inner)


def _opened(value: Any) -> Any:
    """What an object holds, as a table, a list or a simple value.

    Raises:
        TypeError: nothing that is known here.
    """
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (type, bytes, bytearray)):
        raise TypeError(f"JSON has nothing for {type(value).__name__}")
    for turn in ("to_json", "as_json", "tolist"):  # ours; numbers and arrays of other libraries
        if callable(method := getattr(value, turn, None)):
            return method()
    if callable(dump := getattr(value, "model_dump", None)):
        return dump(mode="json")
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Iterable):
        return list(cast(Iterable[Any], value))
    raise TypeError(f"JSON has nothing for {type(value).__name__}")
