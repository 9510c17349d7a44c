"""A foreign ``config.json``: read with limits, its values checked one by one as they are asked for."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from congling.core import files
from congling.core.errors import UserError

CONFIG = "config.json"
QUANTISED = "quantization_config"
"""The key that says how layers in few bits are stored."""
_LARGEST = 2**22  # bytes; published configurations have a few thousand


def read_json(path: Path, *, largest: int = _LARGEST) -> dict[str, Any]:
    """An object from a JSON file of at most ``largest`` bytes.

    Raises:
        UserError: the file is missing, too large, no JSON, or holds something other than an object.
    """
    try:
        if path.stat().st_size > largest:
            raise UserError("too large for what it should hold", where=path, value=path.stat().st_size)
        values = json.loads(files.text(path, largest))
    except FileNotFoundError:
        raise UserError(
            "no Hugging Face model here: a file is missing", where=path.parent, value=path.name
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot be read as JSON ({type(error).__name__})", where=path) from None
    if not isinstance(values, dict):
        raise UserError("an object is needed, not this", where=path, value=values)
    return values


class Settings:
    """The values of a configuration; a key that is missing or null has the default of its architecture."""

    def __init__(self, values: Mapping[str, Any], where: object, defaults: Mapping[str, Any]) -> None:
        self.values, self.where, self.defaults = values, where, defaults

    def get(self, key: str) -> Any:
        """The value as it stands, else the default, else ``None``."""
        value = self.values.get(key)
        return self.defaults.get(key) if value is None else value

    def integer(self, *keys: str) -> int:
        """A whole number from 1 to 2³¹ - 1 under the first of ``keys`` that is there.

        Raises:
            UserError: none of the keys is there, or its value is another.
        """
        key = next((key for key in keys if self.get(key) is not None), None)
        if key is None:
            raise UserError("a key is missing", where=self.where, value=keys[0])
        value = self.get(key)
        if type(value) is not int or not 0 < value < 2**31:
            raise UserError(f"{key} must be a whole number, 1 to 2147483647", where=self.where, value=value)
        return value

    def count(self, key: str) -> int:
        """A whole number that may be 0, and is when the key is missing."""
        value = self.get(key)
        return 0 if value is None or (value == 0 and type(value) is int) else self.integer(key)

    def number(self, key: str) -> float:
        """A number.

        Raises:
            UserError: the key is missing, or its value is another.
        """
        value = self.get(key)
        if type(value) not in (int, float):
            raise UserError(f"{key} must be a number", where=self.where, value=value)
        return as_float(value)

    def flag(self, key: str) -> bool:
        """True or false, and false when the key is missing.

        Raises:
            UserError: the value is another.
        """
        value = self.get(key)
        if value is not None and type(value) is not bool:
            raise UserError(f"{key} must be true or false", where=self.where, value=value)
        return bool(value)

    def require(self, key: str, *supported: Any) -> None:
        """Refuse a value that changes the computation in a way no part here does.

        Raises:
            UserError: the value is none of ``supported``.
        """
        value = self.get(key)
        alike = any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in supported)
        if value is not None and not alike:
            shown = ", ".join(json.dumps(value) for value in supported)
            raise UserError(
                f"{key} is not supported with this value",
                where=self.where,
                value=value,
                hint=f"supported: {shown}",
            )


def as_float(number: int | float) -> float:
    """A number as a float; infinite where a whole number is too large for one."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf
