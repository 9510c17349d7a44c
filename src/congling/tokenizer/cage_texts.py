"""What chat templates can do to texts: methods, filters and formats that keep the sources of characters."""

import json
import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from jinja2.filters import do_title
from jinja2.runtime import Undefined

from congling.tokenizer.traced import UNKNOWN, Traced, joined, plain

METHODS = frozenset({
    "strip", "lstrip", "rstrip", "split", "rsplit", "splitlines", "partition", "rpartition", "replace",
    "removeprefix", "removesuffix", "upper", "lower", "capitalize", "title", "swapcase", "casefold",
    "startswith", "endswith", "find", "rfind", "index", "rindex", "count", "join", "format", "isalnum",
    "isalpha", "isascii", "isdecimal", "isdigit", "isidentifier", "islower", "isnumeric", "isprintable",
    "isspace", "istitle", "isupper",
})  # fmt: skip
"""Methods of strings that a template may call; those that pad are not among them."""
DATE = re.compile(r"(?:[^%]|%-?[A-Za-z%]){0,100}", re.DOTALL)
"""Formats of a date, without the widths that some systems pad to."""
_PERCENT = re.compile(r"%(?:\((\w+)\))?([-+ 0#]{0,3}\d{0,2}(?:\.\d{0,2})?)([sdifgexX%])")


def text_of(value: Any) -> str:
    """A value as it is written; what holds others counts as text, for texts may be among them."""
    if isinstance(value, str):
        return value
    written = str(value)
    plain_value = value is None or isinstance(value, (int, float, Undefined))
    return written if plain_value else Traced(written, UNKNOWN * len(written))


def percent(text: str, values: Any) -> str:
    """``text % values``, with widths of two digits at most.

    Raises:
        ValueError: it asks for more.
    """
    listed: Any = list(values) if isinstance(values, tuple) else [values]
    parts: list[str] = []
    place = taken = 0
    for found in _PERCENT.finditer(text):
        parts.append(_literal(text[place : found.start()], "%"))
        place = found.end()
        name, layout, kind = found[1], found[2], found[3]
        if kind == "%":
            parts.append("%")
            continue
        value: Any = cast(Mapping[str, Any], values)[name] if name else listed[taken]
        taken += not name
        bare = kind == "s" and not layout
        parts.append(text_of(value) if bare else _marked(f"%{layout}{kind}" % (value,), value))
    parts.append(_literal(text[place:], "%"))
    if taken < len(listed) and not isinstance(values, Mapping):
        raise TypeError("not all values are used by the format")
    return joined(parts)


def formatted(text: str, values: Sequence[Any], named: Mapping[str, Any]) -> str:
    """``text.format(…)`` with plain fields alone.

    Raises:
        ValueError: a field has a layout, or takes its value apart.
    """
    parts: list[str] = []
    taken = 0
    for before, name, layout, conversion in string.Formatter().parse(plain(text)):
        parts.append(_marked(before, text) if isinstance(text, Traced) else before)
        if name is None:
            continue
        if layout or conversion or (name and not name.isidentifier() and not name.isdecimal()):
            raise ValueError("chat templates need no layouts in format()")
        index = int(name) if name.isdecimal() else taken
        taken += not name
        parts.append(text_of(named[name] if name.isidentifier() else values[index]))
    return joined(parts)


def _literal(text: str, sign: str) -> str:
    if sign in text:
        raise ValueError("chat templates need no such format")
    return text


def _marked(text: str, value: Any) -> str:
    return Traced(text, UNKNOWN * len(text)) if isinstance(value, str) else text


def _json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None,
    sort_keys: bool = False,
) -> str:  # fmt: skip
    """As transformers has it: nothing is escaped for HTML."""
    if indent is not None and not (isinstance(indent, str) or 0 <= int(indent) <= 16):
        raise ValueError("an indent of 0 to 16 spaces")
    text = json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    return Traced(text, UNKNOWN * len(text))


def _indent(value: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    """As jinja2's: a prefix before every line but the first."""
    if not isinstance(width, str) and not 0 <= width <= 100:
        raise ValueError("an indent of 0 to 100 spaces")
    prefix = width if isinstance(width, str) else " " * width
    text = joined((text_of(value), "\n"))  # as there: else a last line feed would be lost
    lines = text.splitlines()
    if not blank:
        rest = [joined((prefix, line)) if line else line for line in lines[1:]]
    else:
        rest = [joined((prefix, line)) for line in lines[1:]]
    found = joined([*lines[:1], *rest], "\n")
    return joined((prefix, found)) if first else found


def _escaped(value: Any) -> str:
    text = text_of(value)
    for sign, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&#34;"), ("'", "&#39;")):
        text = joined(text.split(sign), name)
    return text


def _format(value: Any, *values: Any, **named: Any) -> str:
    if values and named:
        raise ValueError("a format takes values by name or by place")
    return percent(text_of(value), named or values)


def _title(value: Any) -> str:
    text = text_of(value)
    changed = do_title(plain(text))
    return Traced(changed, text.sources) if isinstance(text, Traced) else changed


FILTERS: Mapping[str, Callable[..., Any]] = {
    "tojson": _json, "indent": _indent, "format": _format, "title": _title, "string": text_of,
    "safe": text_of, "e": _escaped, "escape": _escaped, "forceescape": _escaped,
}  # fmt: skip
"""Filters that stand in for jinja2's, whose results would have lost their sources."""
