"""Durations, sizes and counts as people write them ("15m", "2MB", "3e6"), parsed into numbers and back."""

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

_DURATIONS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LARGEST = 10**15
"""Largest amount: a million gigabytes."""
_SIZES = {"": 1, "b": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def seconds(text: str | float) -> float:
    """Seconds from ``90``, ``"90s"``, ``"15m"``, ``"1h30m"`` or ``"2d"``.

    Raises:
        ValueError: the text is no duration.
    """
    if isinstance(text, (int, float)):
        return float(text)
    number = r"(\d+(?:\.\d+)?)\s*([smhd])"
    parts = re.findall(number, text.strip().lower())
    if not re.fullmatch(rf"(?:{number}\s*)+", text.strip().lower(), re.ASCII):
        raise ValueError(f"{text!r} is no duration; write 90s, 15m, 1h30m or 2d")
    return sum(float(number) * _DURATIONS[unit] for number, unit in parts)


def amount(text: str | float) -> int:
    """A whole number from ``3000000``, ``3e6``, ``"3e6"``, ``"3M"``, ``"2MB"`` (powers of ten).

    Raises:
        ValueError: the text is no amount, or no whole one.
    """
    if isinstance(text, (int, float)):
        if text != int(text):
            raise ValueError(f"{text!r} is no whole number")
        return int(text)
    number = r"(\d+(?:_\d+)*(?:\.\d+)?(?:e\d{1,4})?)\s*([kmgt]?)b?"
    found = re.fullmatch(number, text.strip().lower(), re.ASCII)
    if not found:
        raise ValueError(f"{text!r} is no amount; write 200000, 3e6, 500k or 2MB")
    value = Decimal(found[1]) * _SIZES[found[2]]  # a float makes 1.001k 1000.9999999999999
    if value > LARGEST:
        raise ValueError(f"{text!r} is no amount: it is beyond all sizes")
    if value % 1:
        raise ValueError(f"{text!r} is no whole number")
    return int(value)


def show_seconds(value: float) -> str:
    """``"0.4 s"``, ``"42 s"``, ``"3 m 05 s"``, ``"2 h 10 m"``, ``"12 d 13 h"``."""
    if value < 10:
        return f"{value:.1f} s"
    if value < 60:
        return f"{value:.0f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} m"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"


def show_bytes(value: float) -> str:
    """``"512 B"``, ``"1.8 MB"``, ``"3.2 GB"`` (powers of ten)."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def show_count(value: float) -> str:
    """``"950"``, ``"4.6 k"``, ``"7.2 M"``, ``"1.3 B"``."""
    for unit in ("", " k", " M"):
        if abs(value) < 1000:
            return f"{value:.0f}" if not unit else f"{value:.1f}{unit}"
        value /= 1000
    return f"{value:.1f} B"


def show_rate(value: float, noun: str) -> str:
    """``"4.6 k tokens/s"``, ``"0.42 rows/s"``, ``"2 rows/min"``; ``noun`` is in the plural."""
    if 0 < value < 0.1:
        return f"{60 * value:.2g} {noun}/min"
    return f"{value:.2g} {noun}/s" if 0 < value < 10 else f"{show_count(value)} {noun}/s"


def some(names: Sequence[str], most: int = 3) -> str:
    """``"a, b, c and 2 more"``: the first of many names."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def plural(count: float, noun: str) -> str:
    """The noun as it stands after a number: ``"document"`` after 1, else ``"documents"``."""
    return noun if count == 1 else noun + "s"


def _whole(value: Any) -> Any:
    whole = isinstance(value, str) or (isinstance(value, float) and value.is_integer())
    return amount(value) if whole else value


Seconds = Annotated[
    float,
    BeforeValidator(lambda value: seconds(value) if isinstance(value, str) else value),
    Field(le=1e9),
]
"""A configuration field holding seconds; accepts ``"15m"``."""

Amount = Annotated[int, BeforeValidator(_whole), Field(le=LARGEST)]
"""A configuration field holding a count of bytes, tokens or characters; accepts ``"2MB"`` and ``3e6``."""
