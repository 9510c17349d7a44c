"""Strict TOML to frozen, typed configuration: unknown keys are errors, and the nearest right one is named.

Nothing is converted that a person may have meant otherwise: ``"100"`` is no number, ``true`` is no 1, ``1e3``
(a float) is no whole number. A whole number stands for a float, and a list for a tuple, which TOML and JSON
do not have. A field that takes text for something else says so by a parser of its own (``core/units.py``).
"""

# Tables of TOML hold anything until pydantic has looked at them.
# pyright: standard

import copy
import hashlib
import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, Self, TypeVar, get_args, get_origin

import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from congling.core import files
from congling.core.complaints import Word, as_written, explained, models_in, tables_of
from congling.core.errors import UserError
from congling.core.renamed import with_new_keys
from congling.core.text import decoded
from congling.core.words import joined_words

__all__ = [
    "Config",
    "as_overrides",
    "build",
    "load",
    "models_in",
    "read_toml",
    "toml_value",
    "upgraded",
    "with_overrides",
]

C = TypeVar("C", bound="Config")
_LONGEST = 4_000_000  # bytes of a recipe
_LARGEST, _DEEPEST = 2**63, 12  # of whole numbers; of tables in tables and lists in lists


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
        listed = [
            key
            for key, value in values.items()
            if isinstance(value, list)
            and key in cls.model_fields
            and _holds_tuple(cls.model_fields[key].annotation)
        ]
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


def build(
    kind: type[C],
    values: Mapping[str, Any],
    *,
    where: object = "configuration",
    under: str = "",
    recorded: bool = False,
) -> C:
    """Check ``values`` against a configuration class.

    Args:
        kind: the class.
        values: what is written.
        where: the file, for messages.
        under: the key of the table they stand in, for messages.
        recorded: a program of ours wrote them, perhaps before keys had the names of now.

    Raises:
        UserError: an unknown key (with the nearest known one), a missing key, or a wrong value.
    """
    if not isinstance(values, Mapping):
        raise UserError("a table is expected", where=where, value=values)
    try:
        return kind.model_validate(upgraded(kind, values) if recorded else dict(values))
    except ValidationError as error:
        raise explained(kind, error, where, under, values) from None


def upgraded(kind: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Recorded values of a configuration class, tables within tables too, by the names of now."""
    names = tuple(one.__name__ for one in kind.__mro__)
    found = with_new_keys(names, values)
    for key, field in kind.model_fields.items():
        inner = found.get(key)
        if not isinstance(inner, Mapping):
            continue
        kinds = tables_of(field)
        chosen = next((one for one in kinds if _tag_of(one) in inner.values()), kinds[0] if kinds else None)
        if chosen is not None:
            found[key] = upgraded(chosen, inner)
        else:
            found[key] = with_new_keys(tuple(f"{name}.{key}" for name in names), inner)
    return found


def _tag_of(kind: type[BaseModel]) -> object:
    """What chooses a class among several, such as ``adamw``."""
    tags = (
        kind.model_fields[name].default
        for name in ("kind", "rope_type", "method")
        if name in kind.model_fields
    )
    return next(tags, None)


def load(kind: type[C], path: Path | str, overrides: Iterable[str] = (), *, recorded: bool = False) -> C:
    """Read a TOML recipe, apply ``key=value`` overrides, and check it; see :func:`build` for ``recorded``.

    Raises:
        UserError: the file is missing or no TOML, or its content does not fit ``kind``.
    """
    return build(kind, with_overrides(read_toml(path), overrides), where=path, recorded=recorded)


def read_toml(path: Path | str) -> dict[str, Any]:
    """Read a TOML file, in UTF-8, or as an editor of Windows may have saved it.

    Raises:
        UserError: the file cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(decoded(files.content(path, _LONGEST)))
    except OSError as error:
        raise UserError("cannot read the recipe", where=path, value=Word(error.strerror or error)) from None
    except RecursionError:
        raise UserError("no valid TOML: nested too deeply", where=path) from None
    except ValueError as error:  # TOML, its encoding, or a number of too many digits
        raise UserError(f"no valid TOML: {error}", where=path) from None


def with_overrides(values: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Apply ``model.num_hidden_layers=6`` style overrides; see :func:`toml_value` for the right-hand side.

    >>> with_overrides({"model": {"layers": 4}}, ["model.num_hidden_layers=6", "out=runs/a"])
    {'model': {'layers': 6}, 'out': 'runs/a'}

    Raises:
        UserError: an override without ``=`` or with an empty key; or a value that no setting has.
    """
    _require_plain(values)
    result = copy.deepcopy(dict(values))
    for override in joined_words(overrides):
        key, equals, text = override.partition("=")
        parts = [part.strip() for part in key.split(".")]
        if not equals or not all(parts) or len(parts) > _DEEPEST:
            raise UserError(
                "an override has the form key=value",
                value=override,
                hint="for example model.num_hidden_layers=6",
            )
        table = result
        for part in parts[:-1]:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise UserError(f"{part!r} is a value, not a table", where="override", value=override)
        table[parts[-1]] = toml_value(text.strip())
    _require_plain(result)
    return result


def as_overrides(settings: Mapping[str, Any], under: str = "") -> list[str]:
    """Settings of a program as they are typed; tables within them may stand as mappings.

    >>> as_overrides({"train": {"max_steps": 20}, "data.documents": "line"})
    ['train.max_steps=20', 'data.documents="line"']

    Raises:
        UserError: a value that no setting has.
    """
    found: list[str] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found += as_overrides(value, f"{under}{key}.")
            continue
        plain = str(value) if isinstance(value, Path) else value
        try:
            found.append(f"{under}{key}={tomli_w.dumps({'_': plain}).partition('=')[2].strip()}")
        except TypeError:
            what = "a setting is a number, a text, true or false, or a list of them"
            raise UserError(what, where=f"{under}{key}", value=value) from None
    return found


def _require_plain(value: Any, key: str = "", depth: int = 0) -> None:
    """Refuse what TOML has and no setting does, before anybody calculates with it.

    Raises:
        UserError: a number that is not finite or beyond 64 bits, a date, or tables without end.
    """
    place = f"recipe, key {key}"
    if isinstance(value, (Mapping, list, tuple)):
        if depth > _DEEPEST:
            raise UserError("tables or lists are nested too deeply", where=f"recipe, key {key[:200]}")
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for name, item in items:
            _require_plain(item, f"{key}.{name}" if key else str(name), depth + 1)
    elif isinstance(value, (date, datetime, time)):
        raise UserError("no setting is a date or a time", where=place, value=as_written(value))
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError("a finite number is expected", where=place, value=value)
    elif isinstance(value, int) and abs(value) >= _LARGEST:
        raise UserError("this number is too large", where=place, value=value)


def toml_value(text: str) -> Any:
    """What a word of the command line says: a TOML value, also ``.5`` and ``5.`` without zeros; else text.

    >>> toml_value("6"), toml_value(".5"), toml_value("true"), toml_value("15m")
    (6, 0.5, True, '15m')
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # no TOML, or a number of too many digits
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


def _holds_tuple(annotation: Any) -> bool:
    return get_origin(annotation) is tuple or any(map(_holds_tuple, get_args(annotation)))
