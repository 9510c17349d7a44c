"""Strict TOML to frozen, typed configuration: unknown keys are errors, and the nearest right one is named.

Nothing is converted that a person may have meant otherwise: ``"100"`` is no number, ``true`` is no 1, ``1e3``
(a float) is no whole number. A whole number stands for a float, and a list for a tuple, which TOML and JSON
do not have. A field that takes text for something else says so by a parser of its own (``core/units.py``).
"""

import copy
import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar, get_args, get_origin

import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from congling.core.errors import UserError

C = TypeVar("C", bound="Config")
_EXPECTED = {
    "int": "a whole number is expected", "float": "a number is expected", "bool": "true or false is expected",
    "string": "text is expected", "tuple": "a list is expected", "dict": "a table is expected",
    "model": "a table is expected",
}  # fmt: skip
"""What stands first in the names of pydantic's errors of type, in a person's words."""


class Config(BaseModel):
    """Base of every configuration: immutable, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False, strict=True
    )

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        listed = [key for key, value in values.items()
                  if isinstance(value, list) and key in cls.model_fields
                  and _holds_tuple(cls.model_fields[key].annotation)]  # fmt: skip
        return values | {key: tuple(values[key]) for key in listed}

    def replace(self, **changes: Any) -> Self:
        """Return a validated copy with some fields changed (nested ones given as dictionaries)."""
        return build(type(self), _merge(self.model_dump(), changes), where=type(self).__name__)

    def to_toml(self) -> str:
        """Write the configuration as TOML; ``None`` fields are left out, since TOML has no null."""
        return tomli_w.dumps(_without_none(self.model_dump(mode="json")))

    def fingerprint(self) -> str:
        """Hash of the values: equal configurations have equal fingerprints, whatever file they came from."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def build(kind: type[C], values: Mapping[str, Any], *, where: object = "configuration") -> C:
    """Check ``values`` against a configuration class.

    Raises:
        UserError: an unknown key (with the nearest known one), a missing key, or a wrong value.
    """
    if not isinstance(values, Mapping):
        raise UserError("a table is expected", where=where, value=values)
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise _explained(kind, error, where) from None


def load(kind: type[C], path: Path | str, overrides: Iterable[str] = ()) -> C:
    """Read a TOML recipe, apply ``key=value`` overrides, and check it.

    Raises:
        UserError: the file is missing or no TOML, or its content does not fit ``kind``.
    """
    return build(kind, with_overrides(read_toml(path), overrides), where=path)


def read_toml(path: Path | str) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        UserError: the file cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError("cannot read the recipe", where=path, value=error.strerror) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"no valid TOML: {error}", where=path) from None
    except RecursionError:
        raise UserError("no valid TOML: nested too deeply", where=path) from None


def with_overrides(values: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Apply ``model.layers=6`` style overrides; see :func:`toml_value` for the right-hand side.

    >>> with_overrides({"model": {"layers": 4}}, ["model.layers=6", "out=runs/a"])
    {'model': {'layers': 6}, 'out': 'runs/a'}

    Raises:
        UserError: an override without ``=`` or with an empty key.
    """
    result = copy.deepcopy(dict(values))
    for override in overrides:
        key, equals, text = override.partition("=")
        parts = [part.strip() for part in key.split(".")]
        if not equals or not all(parts):
            raise UserError(
                "an override has the form key=value", value=override, hint="for example model.layers=6"
            )
        table = result
        for part in parts[:-1]:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise UserError(f"{part!r} is a value, not a table", where="override", value=override)
        table[parts[-1]] = toml_value(text.strip())
    return result


def toml_value(text: str) -> Any:
    """What a word of the command line says: a TOML value, also ``.5`` and ``5.`` without zeros; else text.

    >>> toml_value("6"), toml_value(".5"), toml_value("true"), toml_value("15m")
    (6, 0.5, True, '15m')
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        number = re.fullmatch(r"[-+]?(\d+\.|\.\d+)(e[-+]?\d{1,4})?", text, re.ASCII | re.IGNORECASE)
        return float(text) if number else text


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Change some keys of a nested table; a table whose ``kind`` changes is replaced, not merged."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if (
            isinstance(old, dict)
            and isinstance(value, dict)
            and value.get("kind", old.get("kind")) == old.get("kind")
        ):
            value = _merge(old, value)
        merged[key] = value
    return merged


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    return value


def _explained(kind: type[BaseModel], error: ValidationError, where: object) -> UserError:
    """Turn the first of pydantic's complaints into one sentence with a remedy."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    place = f"{where}, key {'.'.join(path)}" if path else str(where)
    if first["type"] == "extra_forbidden":
        known = _fields_at(kind, path[:-1])
        near = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(known))}"
        return UserError("unknown key", where=where, value=".".join(path), hint=hint)
    if first["type"] == "missing":
        return UserError("a key is missing", where=where, value=".".join(path), hint=f"add {path[-1]} = …")
    message, value = first["msg"].removeprefix("Value error, "), first.get("input")
    sort, _, fault = first["type"].partition("_")
    if sort in _EXPECTED and fault in ("type", "from_float"):
        if len(path) > 1 and path[-1] in ("float", "int", "str"):  # pydantic names the branch of a union
            place = f"{where}, key {'.'.join(path[:-1])}"
        return UserError(_EXPECTED[sort], where=place, value=value, hint=_written(sort, value))
    if repr(value) in message or isinstance(value, dict):  # the message names what is wrong in it
        return UserError(message, where=place)
    return UserError(message[:1].lower() + message[1:], where=place, value=value)


def _written(kind: str, value: object) -> str | None:
    """How a value of another kind would be written, where that can be told."""
    if kind == "bool":
        return "write true or false, without quotes"
    if kind == "string":
        return "write it in quotes"
    if kind == "int" and isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return f"write {int(value)}"
    read = toml_value(value.strip()) if isinstance(value, str) else None
    return "write it without quotes" if isinstance(read, int if kind == "int" else (int, float)) else None


def _holds_tuple(annotation: Any) -> bool:
    return get_origin(annotation) is tuple or any(map(_holds_tuple, get_args(annotation)))


def _fields_at(kind: type[BaseModel], path: list[str]) -> list[str]:
    """Field names of the table reached by ``path``; through a tagged union, those of the tagged member."""
    kinds: list[Any] = [kind]
    for part in path:
        nested = [model.model_fields[part].annotation for model in kinds if part in model.model_fields]
        if nested:
            kinds = [model for annotation in nested for model in models_in(annotation)]
        else:  # pydantic names the union's tag as a step of the path
            kinds = [model for model in kinds if _tag(model) == part] or kinds
    return [name for model in kinds for name in model.model_fields]


def _tag(model: type[BaseModel]) -> object:
    return getattr(model.model_fields.get("kind"), "default", None)


def models_in(annotation: Any) -> list[Any]:
    """The configuration classes that a type holds, such as those of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]
