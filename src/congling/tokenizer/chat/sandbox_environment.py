"""The environment that chat templates run in: what there is for them, and what each of it costs.

jinja2's immutable sandbox keeps a template from everything but its arguments; on top of that only listed
methods and filters are there, and every operator, filter, call and loop is paid for by the size of what it
reads and makes (``sandbox_limits``)::

    {% for a in range(99999) %}{% for b in range(99999) %}…      turns of loops
    {% set x = x ~ x %} again and again                           length of values
    {% set n.x = [n.x, n.x] %} again and again                    and of what lies within them
    {% set a = x[1:] %}{% set b = x[1:] %}…                       and of all of them together
    {{ 'a' | center(999999999) }}, {{ '{:>99999}'.format(1) }}    what pads is not there
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial, wraps
from typing import Any

import jinja2
from jinja2 import ext, filters
from jinja2.runtime import BlockReference, Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Cycler, Joiner, Namespace

from congling.core.errors import UserError
from congling.tokenizer.chat import sandbox_texts
from congling.tokenizer.chat.sandbox_limits import TURN, Allowance, length, weight
from congling.tokenizer.chat.sandbox_syntax import Generation, Notes

REFUSES = "the chat template refuses these messages"
"""How errors begin that a template raises by itself."""
SAID = 200
"""Characters that are told of what a template says of its failure."""
_FILTERS = (
    "abs", "attr", "batch", "capitalize", "count", "d", "default", "dictsort", "first", "float", "groupby",
    "int", "items", "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse",
    "select", "selectattr", "slice", "sort", "sum", "unique", "upper",
)  # fmt: skip
_QUICK = frozenset({"abs", "attr", "count", "d", "default", "first", "last", "length"})
"""Filters that take no longer for a large value."""
_SEARCHING = frozenset(
    {"in", "==", "eq", "equalto", "!=", "ne", "<", "lt", "<=", "le", ">", "gt", ">=", "ge"}
)
_METHODS: dict[type, frozenset[str]] = {
    str: sandbox_texts.METHODS,
    dict: frozenset({"get", "items", "keys", "values"}),
    list: frozenset({"count", "index"}),
    tuple: frozenset({"count", "index", "grouper", "list"}),
}
"""What may be called of a value; of numbers, ranges and bytes nothing is."""


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment of one template."""

    intercepted_binops = frozenset({"*", "**", "%", "+"})

    def __init__(self, source: str) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[ext.loopcontrols, Generation],
            finalize=self._written,
        )
        self.source = source
        self.allowance = allowance = Allowance(source)
        self.concat = allowance.joined  # pyright: ignore - what macros and blocks wrote keeps its sources
        known = {name: self.filters[name] for name in _FILTERS} | sandbox_texts.filters(allowance)
        known |= {"join": self._join, "sum": self._sum, "batch": self._batch, "round": sandbox_texts.rounded}
        self.filters = {name: self._metered(name, function) for name, function in known.items()} | {
            "turns_": allowance.turns,
            "made_": allowance.made,
            "read_": allowance.read,
            "sliced_": allowance.sliced,
            "joined_": self._joined,
        }
        self.tests = {
            name: self._tested(test) if name in _SEARCHING else test for name, test in self.tests.items()
        }
        self.globals = {
            "range": self.globals["range"],
            "namespace": Notes,
            "cycler": Cycler,
            "joiner": Joiner,
            "dict": _dict,
            "raise_exception": _refused,
            "strftime_now": sandbox_texts.date,
        }

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Stand in for operators that can make much of little; ``**`` is not there."""
        if operator == "+":
            return self._plus(left, right)
        if operator == "*":
            return self._times(left, right)
        if operator == "%":
            text = isinstance(left, str)
            return sandbox_texts.percent(self.allowance, left, right) if text else left % right
        raise jinja2.exceptions.SecurityError(f"chat templates need no {operator}")

    def _plus(self, left: Any, right: Any) -> Any:
        if isinstance(left, str) and isinstance(right, str):
            self.allowance.within(len(left) + len(right))
            return left + right
        if length(left) + length(right) > self.allowance.largest:
            self.allowance.refuse()
        return self.allowance.made(left + right)

    def _times(self, left: Any, right: Any) -> Any:
        allowance = self.allowance
        if length(left) or length(right):
            size = max(weight(left, allowance.largest), weight(right, allowance.largest))
            number = next((value for value in (left, right) if isinstance(value, int)), 1)
            if size * max(0, number) > allowance.largest:
                allowance.refuse()
            return allowance.made(left * right)
        return left * right if max(abs(left), abs(right)) < 2**63 else allowance.refuse()

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Whether a template may have it: of plain values, what is listed alone."""
        for kind, names in _METHODS.items():
            if isinstance(obj, kind):
                return attr in names
        plain = obj is None or isinstance(obj, (int, float, bytes, range))
        return not plain and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Any:
        """``'…'.format`` as far as it is there."""
        text: Any = getattr(value, "__self__", None)
        named = isinstance(text, str) and getattr(value, "__name__", "") == "format"
        return partial(self._format, text) if named else None

    def _format(self, text: str, /, *values: Any, **named: Any) -> str:
        return sandbox_texts.formatted(self.allowance, text, values, named)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function, method or macro; a macro may write its text anew each time."""
        allowance, owner = self.allowance, getattr(obj, "__self__", None)
        writes = isinstance(obj, (Macro, BlockReference))
        allowance.pay(TURN + (len(self.source) if writes else 0))
        given = [
            *args,
            *(value for name, value in kwargs.items() if name not in ("_loop_vars", "_block_vars")),
        ]
        if isinstance(owner, str):
            return self._of_text(context, obj, owner, args, kwargs, given)
        allowance.read(owner)
        for value in given:
            if not isinstance(value, Namespace):
                allowance.made(value)
        if sum(weight(value, allowance.largest) for value in given if length(value)) > allowance.largest:
            allowance.refuse()
        found = super().call(context, obj, *args, **kwargs)
        if isinstance(found, Namespace):
            allowance.made(tuple(found._Namespace__attrs.values()))  # its only way in
        return found if writes else allowance.made(found)

    def _of_text(
        self,
        context: Context,
        method: Any,
        text: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        given: Sequence[Any],
    ) -> Any:
        """Call a method of a string."""
        self.allowance.pay(len(text) + sum(map(length, given)))
        name = getattr(method, "__name__", "")
        if name == "format":
            raise jinja2.exceptions.SecurityError("chat templates need no other format()")
        if name == "replace":
            return sandbox_texts.replace(self.allowance, text, *given)
        if name == "join":
            return self._join(*given, d=text)
        if name.endswith("strip"):
            sandbox_texts.strips(given[0] if given else None)
        return self.allowance.made(super().call(context, method, *args, **kwargs))

    def _metered(self, name: str, function: Any) -> Any:
        """A filter that is paid for by what it goes through and what it makes."""
        place = 1 if hasattr(function, "jinja_pass_arg") else 0  # behind the environment it is given
        allowance, quick = self.allowance, name in _QUICK

        @wraps(function)
        def filtered(*args: Any, **kwargs: Any) -> Any:
            value = args[place] if len(args) > place else ()
            allowance.pay(TURN)
            if not quick:
                allowance.read(value)
            found = function(*args, **kwargs)
            if isinstance(found, Iterator):
                found = list(allowance.turns(found))
            return found if quick else allowance.made(found)

        return filtered

    def _tested(self, test: Any) -> Any:
        """A test that goes through two values."""

        def tested(value: Any, other: Any) -> Any:
            return test(value, self.allowance.read(other))

        return tested

    def _written(self, value: Any) -> str:
        """A value about to be written."""
        if isinstance(value, str):
            self.allowance.pay(len(value))
            return value
        return self.allowance.made(sandbox_texts.text_of(value))

    def _joined(self, values: list[Any]) -> str:
        """``a ~ b ~ …``."""
        return self.allowance.joined(map(sandbox_texts.text_of, values))

    def _join(self, values: Iterable[Any], d: str = "", attribute: str | None = None) -> str:
        values = self.allowance.read(values) if length(values) else self.allowance.turns(values)
        if attribute is not None:
            values = (self.getitem(value, attribute) for value in values)
        return self.allowance.joined(map(sandbox_texts.text_of, values), d)

    def _sum(self, values: Iterable[Any], attribute: Any = None, start: Any = 0) -> Any:
        for value in values:
            self.allowance.pay(TURN)
            start = self._plus(start, value if attribute is None else self.getitem(value, attribute))
        return start

    def _batch(self, values: Iterable[Any], linecount: int, fill_with: Any = None) -> Any:
        if linecount > self.allowance.largest:
            self.allowance.refuse()
        return filters.do_batch(values, linecount, fill_with)


def _refused(message: Any) -> None:
    text = str(message)
    raise UserError(f"{REFUSES}: {text[:SAID]}")


def _dict(*items: Any, **named: Any) -> dict[Any, Any]:
    return dict(*items, **named)  # the type itself has methods that change one
