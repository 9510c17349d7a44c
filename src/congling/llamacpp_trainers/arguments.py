"""Command lines in the manner of llama.cpp's former trainers: a dataclass is both the table and the result.

::

    @dataclass(frozen=True)
    class Options:
        ctx: int = flag("-c", "--ctx", value=int, shown="N", default=128, help="tokens in one row")

In an argument that begins with ``--`` every ``_`` is read as ``-``; an argument that is not known, or a flag
without its value, is a :class:`Misuse`. Nothing is abbreviated and no flag takes ``=``.
"""

import dataclasses
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "'": "'", '"': '"', "\\": "\\"}
"""What may follow a backslash where ``--escape`` is given."""


class Misuse(Exception):
    """The command line cannot be understood; the message names the argument."""


class HelpWanted(Exception):
    """``-h`` or ``--help`` was among the arguments."""


@dataclass(frozen=True)
class Switch:
    """One spelling of a choice: its names, the values that follow, and what they mean."""

    names: tuple[str, ...]
    read: Callable[..., Any]
    """The following strings to the value; a constant's takes none."""
    shown: tuple[str, ...] = ()
    """Names of the following values in the usage."""
    help: str = ""
    added: bool = False
    """The value is added to a tuple instead of taking its place."""


def flag(
    *names: str, value: Callable[[str], Any], shown: str, default: Any, help: str, least: float | None = None
) -> Any:
    """A dataclass field set by ``NAME VALUE``; ``least`` is the smallest number allowed."""
    switch = Switch(names, lambda text: _number(value(text), least), (shown,), help)
    return choices(switch, default=default)


def toggle(on: str, off: str | None = None, *, default: bool, help: str) -> Any:
    """A dataclass field set by flags without a value."""
    switches = [Switch((on,), lambda: True, (), help)]
    if off is not None:
        switches.append(Switch((off,), lambda: False, (), f"not {on}"))
    return choices(*switches, default=default)


def choices(*switches: Switch, default: Any) -> Any:
    """A dataclass field set by any of several switches."""
    return dataclasses.field(default=default, metadata={"switches": switches})


def parse(kind: type[T], arguments: Sequence[str]) -> T:
    """Fill in the dataclass ``kind``; its field ``given``, if it has one, gets the names that were set.

    Raises:
        Misuse: an unknown argument, a missing value, or one that is not what the flag takes.
        HelpWanted: help was asked for.
    """
    known = {name: (field, switch) for field, switch in switches(kind) for name in switch.names}
    values: dict[str, Any] = {}
    words = iter(arguments)
    for word in words:
        name = word.replace("_", "-") if word.startswith("--") else word
        if name in ("-h", "--help"):
            raise HelpWanted
        if name not in known:
            raise Misuse(f"unknown argument: {word}")
        field, switch = known[name]
        found = _value(switch, name, words)
        values[field] = (*values.get(field, ()), found) if switch.added else found
    if any(field.name == "given" for field in dataclasses.fields(kind)):  # type: ignore[arg-type]
        values["given"] = frozenset(values)
    return kind(**values)


def called(
    kind: type[T], program: str, about: str, arguments: Sequence[str], examples: Sequence[str] = ()
) -> T:
    """The options of a command line; prints the usage and ends the program where it is asked for or needed.

    Raises:
        SystemExit: status 0 after ``--help``, 1 after arguments that cannot be understood.
    """
    try:
        return parse(kind, arguments)
    except HelpWanted:
        print(usage(kind, program, about, examples))
        raise SystemExit(0) from None
    except Misuse as error:
        print(
            f"{usage(kind, program, about, examples)}\n\nerror: {error}", file=sys.stderr
        )  # last: it stays in sight
        raise SystemExit(1) from None


def usage(kind: type, program: str, about: str, examples: Sequence[str] = ()) -> str:
    """The help text: every flag with its default, those that several programs take before its own."""
    groups: dict[str, list[tuple[str, str]]] = {
        "options": [("-h, --help", "show this help message and exit")]
    }
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    for field, switch in switches(kind):
        default = defaults[field]
        tells = bool(switch.shown) and not switch.added and default is not None
        names = " ".join([", ".join(switch.names), *switch.shown])
        shown = switch.help + (f" (default {default!r})" if tells else "")
        shared = any(field in getattr(base, "__annotations__", {}) for base in kind.__mro__[1:])
        groups.setdefault(
            "options" if shared or kind.__mro__[1] is object else f"options of {program}", []
        ).append((names, shown))
    width = max(len(left) for rows in groups.values() for left, _ in rows if len(left) < 34)
    lines = [f"usage: congling {program} [options]", "", about]
    for title, rows in groups.items():
        lines += ["", f"{title}:", *(f"  {left:<{width}}  {right}".rstrip() for left, right in rows)]
    if examples:
        lines += ["", "examples:", *(f"  {line}" for line in examples)]
    return "\n".join(lines)


def unescaped(text: str) -> str:
    r"""Text with ``\n \r \t \' \" \\`` replaced; a backslash before anything else stays."""
    out, characters = [], iter(text)
    for character in characters:
        if character != "\\":
            out.append(character)
            continue
        following = next(characters, "")
        out.append(ESCAPES.get(following, "\\" + following))
    return "".join(out)


def switches(kind: type) -> Iterator[tuple[str, Switch]]:
    """Every switch with the name of its field, in the order of the table."""
    for field in dataclasses.fields(kind):
        for switch in field.metadata.get("switches", ()):
            yield field.name, switch


def _value(switch: Switch, name: str, words: Iterator[str]) -> Any:
    following = []
    for _ in switch.shown:
        word = next(words, None)
        if word is None:
            raise Misuse(f"missing value of {name}")
        following.append(word)
    try:
        return switch.read(*following)
    except ValueError as error:
        reason = f": {error}" if str(error).startswith("at least") else ""
        raise Misuse(f"wrong value of {name}: {' '.join(following)!r}{reason}") from None


def _number(value: Any, least: float | None) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("not finite")
    if least is not None and value < least:
        raise ValueError(f"at least {least}")
    return value
