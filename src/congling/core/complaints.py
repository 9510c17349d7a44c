"""Complaints of pydantic as one sentence: which key, as one would type it, what is wrong, and what to do."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time
from typing import Any, cast, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from congling.core.errors import UserError
from congling.core.renamed import Renamed, new_key

_EXPECTED = {
    "int": "a whole number is expected", "float": "a number is expected", "bool": "true or false is expected",
    "string": "text is expected", "tuple": "a list is expected", "dict": "a table is expected",
    "model": "a table is expected",
}  # fmt: skip
"""What stands first in the names of pydantic's errors of type, in a person's words."""
_WORDS = (
    ("Value error, ", ""), ("Input should be", "must be"), ("String should have", "must have"),
    ("Tuple should have", "must have"), ("Dictionary should have", "must have"), (" after validation", ""),
)  # fmt: skip
_LONGEST = 80  # characters of a value that are quoted
_BRANCHES = ("float", "int", "str", "bool", "[key]")
"""Steps of pydantic's paths that are no keys: the branch of a union of plain types, and a wrong key."""

_RENAMED = "renamed"
"""Type of the error that `require_new_keys` raises."""


class Table:
    """Marks a field that is an open dictionary now and becomes a table of this kind later."""

    def __init__(self, kind: type[BaseModel]) -> None:
        self.kind = kind


def require_new_keys(name: str, table: Mapping[str, Any]) -> None:
    """For validators of dictionaries that may hold any key: name one that had another name once.

    Args:
        name: of the dictionary in the table of renamed keys.
        table: the dictionary.
    """
    for key in table:
        if (found := new_key((name,), key, table)) is not None:
            raise PydanticCustomError(_RENAMED, "write {name}", {"key": key, "name": found.name})


def explained(
    kind: type[BaseModel],
    error: ValidationError,
    where: object,
    under: str = "",
    values: Mapping[str, Any] | None = None,
) -> UserError:
    """What is wrong with ``values`` of ``kind``, whose table is ``under`` that key: of pydantic's complaints
    the first, or that of a key with another name now, for which another one may be missing."""
    return _of_before(kind, error, where, under, values) or _of_first(kind, error, where, under)


def _of_before(
    kind: type[BaseModel], error: ValidationError, where: object, under: str, values: Mapping[str, Any] | None
) -> UserError | None:
    """A key that has another name now."""
    for one in error.errors():
        keys, inner = _walked(kind, one["loc"])
        if one["type"] == _RENAMED:  # told by a validator, of a dictionary that may hold any key
            keys, hint = [*keys, one.get("ctx", {})["key"]], one["msg"]
        else:
            hint = _renamed(inner, one, values) if one["type"] == "extra_forbidden" else None
        if hint is not None:
            key = ".".join([*([under] if under else []), *keys])
            return UserError("this key has another name now", where=where, value=key, hint=hint)
    return None


def _of_first(kind: type[BaseModel], error: ValidationError, where: object, under: str) -> UserError:
    """The first complaint."""
    first = error.errors()[0]
    keys, inner = _walked(kind, first["loc"])
    key = ".".join([*([under] if under else []), *keys])
    place = f"{where}, key {key}" if key else str(where)
    value, context = first.get("input"), first.get("ctx", {})
    match first["type"]:
        case "extra_forbidden":
            hint = _nearest_key(kind, keys, inner, under)
            return UserError("unknown key", where=where, value=key, hint=hint)
        case "missing":
            return UserError("a key is missing", where=where, value=key, hint=f"add {keys[-1]} = …")
        case "union_tag_not_found":
            known = ", ".join(repr(_tag(one)) for one in inner)
            return UserError("a key is missing", where=where, value=f"{key}.kind", hint=f"one of {known}")
        case "union_tag_invalid":
            what, hint = "there is no such kind", _nearest(context["tag"], context["expected_tags"])
            return UserError(what, where=f"{place}.kind", value=context["tag"], hint=hint)
        case "literal_error":
            hint = _nearest(value, context["expected"])
            return UserError("no such value", where=place, value=as_written(value), hint=hint)
        case _:
            return _plain(first, value, place)


def _plain(first: Any, value: Any, place: str) -> UserError:
    """A value of another type, or out of range."""
    sort, _, fault = first["type"].replace("model_attributes", "model").partition("_")
    if sort in _EXPECTED and fault in ("type", "from_float"):
        return UserError(_EXPECTED[sort], where=place, value=as_written(value), hint=_written(sort, value))
    message = first["msg"]
    for theirs, ours in _WORDS:
        message = message.replace(theirs, ours)
    if isinstance(value, str) and len(value) > _LONGEST:
        message = message.replace(repr(value), repr(value[:_LONGEST] + "…"))
        value = value[:_LONGEST] + "…"
    if isinstance(value, (dict, BaseModel)) or _quotes(message, value):
        return UserError(message, where=place)
    return UserError(message[:1].lower() + message[1:], where=place, value=as_written(value))


def as_written(value: Any) -> Any:
    """A value of a recipe as it is written there, where Python writes it otherwise."""
    return Word(value.isoformat()) if isinstance(value, (date, datetime, time)) else value


class Word(str):
    """Text that stands without quotes in a message."""

    def __repr__(self) -> str:
        return str(self)


def _quotes(message: str, value: object) -> bool:
    """Whether a message names the value already."""
    try:
        return repr(value) in message
    except (ValueError, RecursionError):  # a number of too many digits, lists in lists without end
        return False


def _walked(kind: type[BaseModel], path: Sequence[Any]) -> tuple[list[str], list[Any]]:
    """The keys of a path as they are typed, and the tables that may stand at its end."""
    keys: list[str] = []
    kinds: list[Any] = [kind]
    for part in path:
        nested = [one.model_fields[part] for one in kinds if part in one.model_fields]
        tagged = [one for one in kinds if _tag(one) == part]
        if isinstance(part, int):
            keys[-1:] = [f"{keys[-1] if keys else ''}[{part}]"]
        elif nested:
            keys.append(part)
            kinds = [one for field in nested for one in tables_of(field)]
        elif tagged:  # pydantic names the union's tag as a step of the path
            kinds = tagged
        elif kinds or part not in _BRANCHES:
            keys.append(str(part))
            kinds = kinds if part is path[-1] else []
    return keys, kinds


def _nearest_key(kind: type[BaseModel], keys: Sequence[str], inner: Sequence[Any], under: str) -> str:
    """The nearest known key: of the same table, else one of that name in another."""
    known = [name for one in inner for name in one.model_fields]
    near = difflib.get_close_matches(keys[-1][:100], known, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    elsewhere, listed = _elsewhere(kind, keys[-1]), f"known keys: {', '.join(sorted(known))}"
    if elsewhere is None:
        return listed
    if elsewhere == ".".join(keys):  # this table has it where it is of another kind
        others = [str(_tag(one)) for _, one in _tables(kind) if keys[-1] in one.model_fields]
        return f"it belongs to {', '.join(others)}; {listed}"
    return f"did you mean {f'{under}.{elsewhere}' if under else elsewhere}?"


def _renamed(inner: Sequence[Any], error: Any, values: Mapping[str, Any] | None) -> str | None:
    """What to write in place of the key that an error names, which had this name once."""
    *path, key = error["loc"]
    table: Mapping[str, Any] = values or {}
    for part in path:  # a step that only names a kind of table is no key
        inside: Any = table.get(part, table)
        table = cast(Mapping[str, Any], inside) if isinstance(inside, Mapping) else {}
    value = error.get("input")
    for one in inner:
        if (found := _new_key(one, key, table)) is not None:
            if isinstance(value, str) and value in found.values:
                return f"write {found.name} = {_as_toml(found.values[value])}"
            return f"write {found.name}"
    return None


def _new_key(kind: type[BaseModel], key: str, table: Mapping[str, Any]) -> Renamed | None:
    return new_key(tuple(parent.__name__ for parent in kind.__mro__), key, table)


def _as_toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"'


def _elsewhere(kind: type[BaseModel], key: str) -> str | None:
    """Where else a key belongs, by its name of now."""
    tables = list(_tables(kind))
    for before, table in tables:
        if key in table.model_fields:
            return before + key
    for before, table in tables:
        if (found := _new_key(table, key, {})) is not None:
            return before + found.name
    return None


def _tables(kind: type[BaseModel], before: str = "", depth: int = 4) -> Iterator[tuple[str, type[BaseModel]]]:
    """A table and those in it, from the outside inwards, with what stands before their keys."""
    yield before, kind
    for name, field in kind.model_fields.items():
        for one in tables_of(field) if depth else ():
            yield from _tables(one, f"{before}{name}.", depth - 1)


def _nearest(value: object, known: str) -> str:
    """A remedy out of a list of quoted words."""
    near = difflib.get_close_matches(
        str(value), known.replace(" or ", ", ").replace("'", "").split(", "), n=1
    )
    return f"did you mean {near[0]!r}? There are {known}" if near else f"there are {known}"


def _written(kind: str, value: object) -> str | None:
    """How a value of another kind would be written, where that can be told."""
    from congling.core.config import toml_value

    if kind == "bool":
        return "write true or false, without quotes"
    if kind == "string":
        return "write it in quotes"
    if kind == "int" and isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return f"write {int(value)}"
    read = toml_value(value.strip()) if isinstance(value, str) else None
    return "write it without quotes" if isinstance(read, int if kind == "int" else (int, float)) else None


def _tag(model: type[BaseModel]) -> object:
    tags = (
        model.model_fields[name] for name in ("kind", "rope_type", "method") if name in model.model_fields
    )
    return getattr(next(tags, None), "default", None)


def tables_of(field: Any) -> list[Any]:
    """The tables that a field may hold."""
    marked = [one.kind for one in field.metadata if isinstance(one, Table)]
    return marked + models_in(field.annotation)


def models_in(annotation: Any) -> list[Any]:
    """The configuration classes that a type holds, such as those of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]
