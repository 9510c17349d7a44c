"""What chat templates can do to texts: methods, filters and formats that keep the sources of characters."""

import json
import os
import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, cast

from jinja2.filters import do_round, do_title
from jinja2.runtime import Undefined

from congling.tokenizer.chat.sandbox_limits import Allowance
from congling.tokenizer.chat.traced import UNKNOWN, Traced, joined, plain, replaced

METHODS = frozenset({
    "strip", "lstrip", "rstrip", "split", "rsplit", "splitlines", "partition", "rpartition", "replace",
    "removeprefix", "removesuffix", "upper", "lower", "capitalize", "title", "swapcase", "casefold",
    "startswith", "endswith", "find", "rfind", "index", "rindex", "count", "join", "format", "isalnum",
    "isalpha", "isascii", "isdecimal", "isdigit", "isidentifier", "islower", "isnumeric", "isprintable",
    "isspace", "istitle", "isupper",
})  # fmt: skip
"""Methods of strings that a template may call; those that pad are not among them."""
_DATE = re.compile(r"(?:[^%]|%-?[A-Za-z%]){0,100}", re.DOTALL)  # without widths, to which some systems pad
_STRIPPED = 256
_PERCENT = re.compile(r"%(?:\((\w+)\))?([-+ 0#]{0,3}\d{0,2}(?:\.\d{0,2})?)([sdifgexX%])")


def text_of(value: Any) -> str:
    """A value as it is written; what holds others counts as text, for texts may be among them."""
    if isinstance(value, str):
        return value
    written = str(value)
    plain_value = value is None or isinstance(value, (int, float, Undefined))
    return written if plain_value else Traced(written, UNKNOWN * len(written))


def percent(allowance: Allowance, text: str, values: Any) -> str:
    """``text % values``, with widths of two digits at most.

    Raises:
        ValueError: it asks for more.
        UserError: the allowance does not reach so far.
    """
    return allowance.joined(_percent(text, values))


def _percent(text: str, values: Any) -> Iterator[str]:
    listed: Any = list(values) if isinstance(values, tuple) else [values]
    place = taken = 0
    for found in _PERCENT.finditer(text):
        yield _literal(text[place : found.start()], "%")
        place = found.end()
        name, layout, kind = found[1], found[2], found[3]
        if kind == "%":
            yield "%"
            continue
        value: Any = cast(Mapping[str, Any], values)[name] if name else listed[taken]
        taken += not name
        bare = kind == "s" and not layout
        yield text_of(value) if bare else _marked(f"%{layout}{kind}" % (value,), value)
    yield _literal(text[place:], "%")
    if taken < len(listed) and not isinstance(values, Mapping):
        raise TypeError("not all values are used by the format")


def formatted(allowance: Allowance, text: str, values: Sequence[Any], named: Mapping[str, Any]) -> str:
    """``text.format(…)`` with plain fields alone.

    Raises:
        ValueError: a field has a layout, or takes its value apart.
        UserError: the allowance does not reach so far.
    """
    return allowance.joined(_formatted(text, values, named))


def _formatted(text: str, values: Sequence[Any], named: Mapping[str, Any]) -> Iterator[str]:
    taken = 0
    for before, name, layout, conversion in string.Formatter().parse(plain(text)):
        yield _marked(before, text) if isinstance(text, Traced) else before
        if name is None:
            continue
        if layout or conversion or (name and not name.isidentifier() and not name.isdecimal()):
            raise ValueError("chat templates need no layouts in format()")
        index = int(name) if name.isdecimal() else taken
        taken += not name
        yield text_of(named[name] if name.isidentifier() else values[index])


def _literal(text: str, sign: str) -> str:
    if sign in text:
        raise ValueError("chat templates need no such format")
    return text


def _marked(text: str, value: Any) -> str:
    return Traced(text, UNKNOWN * len(text)) if isinstance(value, str) else text


def replace(allowance: Allowance, text: Any, old: str, new: str, count: int | None = None) -> str:
    """``text.replace(…)``.

    Raises:
        UserError: the allowance does not reach so far.
    """
    text = text_of(text)
    allowance.within(len(text) + (text.count(old) if old else len(text)) * len(new))
    return replaced(text, old, new, -1 if count is None else count)


def strips(chars: Any) -> None:
    """Refuse to strip more kinds of characters than anybody means: each is looked for in all of them.

    Raises:
        ValueError: there are more.
    """
    if isinstance(chars, str) and len(chars) > _STRIPPED:
        raise ValueError("so many characters are not to be stripped")


def _json(
    allowance: Allowance,
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    """As transformers has it: nothing is escaped for HTML."""
    if indent is not None and not 0 <= (len(indent) if isinstance(indent, str) else int(indent)) <= 16:
        raise ValueError("an indent of 0 to 16 spaces")
    if separators is not None and any(len(one) > 16 for one in separators):
        raise ValueError("separators of 16 characters at most")
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    text = allowance.joined(encoder.iterencode(allowance.read(value)))
    return Traced(text, UNKNOWN * len(text))


def _indent(
    allowance: Allowance, value: Any, width: int | str = 4, first: bool = False, blank: bool = False
) -> str:
    """As jinja2's: a prefix before every line but the first."""
    if not isinstance(width, str) and not 0 <= width <= 100:
        raise ValueError("an indent of 0 to 100 spaces")
    prefix = width if isinstance(width, str) else " " * width
    text = joined((text_of(value), "\n"))  # as there: else a last line feed would be lost
    lines = text.splitlines()
    allowance.within(len(text) + len(prefix) * len(lines))
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


def _format(allowance: Allowance, value: Any, *values: Any, **named: Any) -> str:
    if values and named:
        raise ValueError("a format takes values by name or by place")
    return percent(allowance, text_of(value), named or values)


def _title(value: Any) -> str:
    text = text_of(value)
    changed = do_title(plain(text))
    return Traced(changed, text.sources) if isinstance(text, Traced) else changed


def _trimmed(value: Any, chars: str | None = None) -> str:
    strips(chars)
    return text_of(value).strip(chars)


def rounded(value: Any, precision: int = 0, method: str = "common") -> Any:
    """As jinja2's.

    Raises:
        ValueError: numbers have no such precision.
    """
    if not -30 <= precision <= 30:
        raise ValueError("numbers have no such precision")
    return do_round(value, precision, method)  # pyright: ignore - wrong methods are errors there


def date(layout: str) -> str:
    """The time in a format of ``strftime``; that of ``SOURCE_DATE_EPOCH`` where it is set.

    Raises:
        ValueError: it is no format.
    """
    if not _DATE.fullmatch(layout):
        raise ValueError("no format of a date")
    fixed = os.environ.get("SOURCE_DATE_EPOCH", "")
    now = datetime.fromtimestamp(int(fixed)) if fixed.isdecimal() else datetime.now()
    return now.strftime(layout)


def filters(allowance: Allowance) -> dict[str, Callable[..., Any]]:
    """Filters that stand in for jinja2's, whose results would have lost their sources or know no limit."""
    limited = {"tojson": _json, "indent": _indent, "format": _format, "replace": replace}
    return {name: partial(function, allowance) for name, function in limited.items()} | {
        "title": _title,
        "string": text_of,
        "safe": text_of,
        "e": _escaped,
        "escape": _escaped,
        "forceescape": _escaped,
        "trim": _trimmed,
    }
