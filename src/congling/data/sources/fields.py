"""One object of a row: hands out its fields by their usual names, and remembers which were used."""

import ast
import contextlib
import json
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from congling.data.clean import blank
from congling.data.sources.names import ABOUT, FLAGS
from congling.data.unread import Unread


class Unfit(ValueError):
    """A record that is no whole row: under which name it is counted, and why."""

    def __init__(self, kind: str, reason: str) -> None:
        self.kind = kind
        super().__init__(reason)


@dataclass(slots=True)
class Log:
    """What is told of one record beside its turns."""

    repairs: list[tuple[str, str]] = field(default_factory=list)
    """What was mended or left out: the name it is counted under, and the reason."""
    objects: list["Fields"] = field(default_factory=list)
    """The record and its turns."""
    empty: dict[str, str] = field(default_factory=dict)
    """Why a role says nothing: missing, null, empty."""
    layout: str = ""
    """How an unusual record was understood; said once a file."""

    def unread(self, said: Iterable[str]) -> Iterator[Unread]:
        """Fields that nobody used and that hold something else than the texts of the row once more."""
        texts = {text.strip() for text in said}
        for one in self.objects:
            yield from one.unread(texts)


class Fields:
    """The fields of a record or of a turn; names are found without regard to case.

    Args:
        values: the object itself.
        log: where what is left is told.
        what: how its fields are named to a person.
    """

    def __init__(self, values: Mapping[str, Any], log: Log, what: str = "field") -> None:
        self.values, self.log, self.what = values, log, what
        self._used: set[str] = set()
        self._names: dict[str, str] = {}
        for name in values:
            self._names.setdefault(str(name).strip().casefold(), name)
        log.objects.append(self)

    def find(self, names: Iterable[str], *, held: bool = False) -> str:
        """The first of these fields that holds something; else the first there is, unless ``held``; or ""."""
        there = [self._names[name] for name in names if name in self._names]
        full = (name for name in there if holds(self.values[name]))
        return next(full, "" if held or not there else there[0])

    def all(self, names: Iterable[str]) -> list[str]:
        """All of these fields that hold something."""
        there = (self._names[name] for name in names if name in self._names)
        return [name for name in there if holds(self.values[name])]

    def use(self, name: str) -> Any:
        """The value of a field, which counts as read; ``None`` for no field."""
        if not name:
            return None
        self._used.add(name)
        return self.values[name]

    def __getitem__(self, name: str) -> Any:
        return self.values.get(name)

    def unread(self, said: set[str]) -> Iterator[Unread]:
        """Fields that were not used, but for those that only repeat what is said."""
        for name, value in self.values.items():
            if name in self._used or not holds(value) or _repeats(value, said):
                continue
            low = str(name).strip().casefold()
            about = (
                low in ABOUT or low.endswith("_id") or low.startswith(("_", "unnamed")) or not _says(value)
            )
            about = about and low not in FLAGS  # half a weight is no matter of the row alone
            yield Unread(f"{self.what} {str(name)[:60]!r}" if not about else str(name)[:60], about)


def _says(value: Any) -> bool:
    """Whether a value may hold what is said: no number and no flag does, be it kept as text or not."""
    if isinstance(value, str):
        return any(character.isalpha() for character in value)
    return not isinstance(value, bool | int | float)


def _repeats(value: Any, said: set[str]) -> bool:
    """Whether a field says once more what the turns say, alone or all together."""
    if isinstance(value, list):
        return bool(value) and all(_repeats(item, said) for item in value)
    if isinstance(value, Mapping):  # a turn that is kept twice
        text = value.get("content", value.get("value"))
        return isinstance(text, str) and text.strip() in said
    if not isinstance(value, str):
        return False
    return value.strip() in said or (bool(said) and all(text in value for text in said))


def kind_of(value: Any) -> str:
    """What a JSON value is, for a person."""
    names = {
        str: "text",
        dict: "an object",
        list: "a list",
        type(None): "null",
        bool: "true or false",
        bytes: "bytes",
    }
    return names.get(type(value), "a number")


def holds(value: Any) -> bool:
    """Whether a value holds anything: no null, NaN, blank text or empty list does."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return False
    if isinstance(value, str):
        return not blank(value)
    return bool(value) if isinstance(value, list | Mapping) else True


_NO_PYTHON = (ValueError, SyntaxError, TypeError, RecursionError, MemoryError)  # {{1}} is a TypeError


def parsed(value: Any) -> Any:
    """What a text holds that is JSON, or Python's own spelling of lists; anything else as it is.

    Tables keep lists as text: JSON where a person wrote it so, ``repr`` where pandas did.
    """
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(value)
    with contextlib.suppress(*_NO_PYTHON), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.literal_eval(value.strip())
    return value


def as_json(value: Any) -> str:
    """One line of JSON, characters as they are."""
    return json.dumps(value, ensure_ascii=False, default=str)
