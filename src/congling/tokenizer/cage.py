"""Running a chat template, which came with a model and is foreign code, under limits.

jinja2's immutable sandbox keeps it from everything but its arguments; on top of that only listed methods and
filters are there, every template has an allowance of effort and of seconds, and no value may grow large::

    {% for a in range(99999) %}{% for b in range(99999) %}…      turns of loops
    {% set x = x ~ x %} again and again                           length of values
    {% set n.x = [n.x, n.x] %} again and again                    and of what lies within them
    {{ 'a' | center(999999999) }}, {{ '{:>99999}'.format(1) }}    what pads is not there

The texts of messages are :class:`~congling.tokenizer.traced.Traced`, and stay so whatever is done to them.
The settings are those of transformers, which templates are written for.
"""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache, partial, wraps
from typing import Any

import jinja2
from jinja2 import ext, nodes
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Cycler, Joiner, Namespace

from congling.core.errors import UserError
from congling.tokenizer import cage_texts
from congling.tokenizer.cage_syntax import Generation, Metered
from congling.tokenizer.traced import joined, replaced

REFUSES = "the chat template refuses these messages"
"""How errors begin that a template raises by itself."""
LONGEST = 1_000_000
"""Characters a template may write beyond the texts of its messages."""
_LARGEST = 100_000  # characters or items of a value, beyond those of the messages
_SOURCE = 200_000  # characters of a template
_EFFORT = 50_000_000  # about a second; a written character costs 1
_SECONDS = 5  # of the processor, whatever the effort is
_TURN, _ITEM = 500, 10  # what a turn of a loop or a call costs, and a part of a value that is put together
_TEXTS = 16  # times the texts of the messages may be handled
_FILTERS = (
    "abs", "attr", "batch", "capitalize", "count", "d", "default", "dictsort", "first", "float", "groupby",
    "int", "items", "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse",
    "select", "selectattr", "slice", "sort", "sum", "trim", "unique", "upper",
)  # fmt: skip
_METHODS: dict[type, frozenset[str]] = {
    str: cage_texts.METHODS,
    dict: frozenset({"get", "items", "keys", "values"}),
    list: frozenset({"count", "index"}),
    tuple: frozenset({"count", "index", "grouper", "list"}),
}
"""What may be called of a value; of numbers, ranges and bytes nothing is."""


def run(source: str, messages: Sequence[Mapping[str, Any]], **names: Any) -> str:
    """What a template writes for these messages; a Traced string where their texts are.

    Raises:
        UserError: it is broken, refuses these messages, wants too much, or never ends.
    """
    if len(source) > _SOURCE:
        raise UserError("the chat template is too long to be one", value=len(source))
    texts = sum(len(text) for message in messages for text in message.values() if isinstance(text, str))
    parts, size = [], 0
    try:
        template, cage = _compiled(source)
        cage.begin(texts)
        for part in template.generate(messages=messages, tools=None, documents=None, **names):
            parts.append(part)
            size += len(part)
            if size > LONGEST + _TEXTS * texts:
                raise UserError("the chat template writes without end", value=source)
    except UserError:
        raise
    except Exception as error:  # a template can make any of Python's operations fail
        raise UserError(f"the chat template does not work: {error}", value=source) from None
    return joined(parts)


def constants(source: str) -> str:
    """All that stands in the template as text, piece by piece on lines of their own.

    Raises:
        UserError: it is no template.
    """
    try:
        tree = _Cage(source).parse(source)
    except Exception as error:
        raise UserError(f"the chat template does not work: {error}", value=source) from None
    found = [node.data for node in tree.find_all(nodes.TemplateData)]
    return "\n".join([*found, *(str(node.value) for node in tree.find_all(nodes.Const))])


class _Cage(ImmutableSandboxedEnvironment):
    """The environment of one template."""

    intercepted_binops = frozenset({"*", "**", "%", "+"})
    concat = staticmethod(joined)  # pyright: ignore - what macros and blocks wrote keeps its sources

    def __init__(self, source: str) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[ext.loopcontrols, Generation],
            finalize=self._paid,
        )
        self.source = source
        self.begin(0)
        known = {name: self.filters[name] for name in _FILTERS} | dict(cage_texts.FILTERS)
        self.filters = {name: self._metered(function) for name, function in known.items()} | {
            "join": self._join, "replace": self._replace, "round": _rounded,
            "turns_": self._turns, "joined_": self._joined, "built_": self._built,
            "searched_": self._searched,
        }  # fmt: skip
        self.globals = {
            "range": self.globals["range"], "namespace": Namespace, "cycler": Cycler, "joiner": Joiner,
            "dict": dict, "raise_exception": _refused, "strftime_now": _date,
        }  # fmt: skip

    def begin(self, texts: int) -> None:
        """A fresh allowance, for messages of so many characters."""
        self.effort, self.allowed = 0, _EFFORT + 100 * texts
        self.largest = _LARGEST + _TEXTS * texts
        self.until = time.thread_time() + _SECONDS

    def pay(self, price: int) -> None:
        """Take from the allowance.

        Raises:
            UserError: it is used up.
        """
        self.effort += price
        if self.effort > self.allowed or time.thread_time() > self.until:
            raise UserError("the chat template works without end", value=self.source)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Stand in for operators that can make much of little; ``**`` is not there."""
        if operator == "+":
            return (
                self._sized(left + right) if _length(left) + _length(right) <= self.largest else self._large()
            )
        if operator == "*":
            return self._times(left, right)
        if operator == "%" and isinstance(left, str):
            return self._sized(cage_texts.percent(left, right))
        if operator == "%":
            return left % right
        raise jinja2.exceptions.SecurityError(f"chat templates need no {operator}")

    def _times(self, left: Any, right: Any) -> Any:
        size = max(_length(left), _length(right))
        number = next((value for value in (left, right) if isinstance(value, int)), 1)
        if size:
            return left * right if size * max(0, number) <= self.largest else self._large()
        return left * right if max(abs(left), abs(right)) < 2**63 else self._large()

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
        return self._sized(cage_texts.formatted(text, values, named))

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function, method or macro; a macro may write its text anew each time."""
        text, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        self.pay(_TURN + (len(self.source) if isinstance(obj, Macro) else _length(text)))
        if isinstance(text, str) and name == "replace":
            return self._replace(text, *args)
        if isinstance(text, str) and name == "join":
            return self._join(*args, d=text)
        found = super().call(context, obj, *args, **kwargs)
        if isinstance(found, Namespace):
            self._built(tuple(found._Namespace__attrs.values()))  # its only way in
        return self._built(found) if isinstance(found, (dict, list, tuple)) else found

    def _metered(self, function: Any) -> Any:
        """A filter that is paid for by the items it goes through."""
        place = 1 if hasattr(function, "jinja_pass_arg") else 0  # behind the environment it is given

        @wraps(function)
        def filtered(*args: Any, **kwargs: Any) -> Any:
            value = args[place] if len(args) > place else ()
            self.pay(_TURN + _ITEM * _length(value))
            if isinstance(value, Iterator):
                args = (*args[:place], self._turns(value, 0), *args[place + 1 :])
            return self._sized(function(*args, **kwargs))

        return filtered

    def _turns(self, items: Iterable[Any], text: int) -> Iterator[Any]:
        """Items of a loop whose body holds so much text."""
        for item in items:
            self.pay(_TURN + text)
            yield item

    def _built(self, value: Any) -> Any:
        """A value put together from others, which may stand for far more text than it has items."""
        size = _weight(value, self.largest)
        self.pay(_ITEM * size)
        return value if size <= self.largest else self._large()

    def _searched(self, value: Any) -> Any:
        self.pay(_length(value))
        return value

    def _paid(self, value: Any) -> str:
        """A value about to be written."""
        text = cage_texts.text_of(value)
        self.pay(len(text))
        return text

    def _joined(self, values: list[Any]) -> str:
        """``a ~ b ~ …``."""
        return self._join(values)

    def _join(self, values: Iterable[Any], d: str = "", attribute: str | None = None) -> str:
        if attribute is not None:
            values = [self.getitem(value, attribute) for value in values]
        parts, size = [], 0
        for value in values:
            parts.append(cage_texts.text_of(value))
            size += len(parts[-1]) + len(d)
            self.pay(_ITEM)
            if size > self.largest:
                self._large()
        return joined(parts, d)

    def _replace(self, text: Any, old: str, new: str, count: int | None = None) -> str:
        text = cage_texts.text_of(text)
        self.pay(len(text))
        if len(text) + (text.count(old) if old else len(text)) * len(new) > self.largest:
            self._large()
        return replaced(text, old, new, -1 if count is None else count)

    def _sized(self, value: Any) -> Any:
        return value if _length(value) <= self.largest else self._large()

    def _large(self) -> Any:
        raise UserError("the chat template makes a value without end", value=self.source)


@lru_cache(maxsize=16)
def _compiled(source: str) -> tuple[jinja2.Template, _Cage]:
    cage = _Cage(source)
    tree = Metered().visit(cage.parse(source))
    for node in tree.find_all(nodes.Node):
        node.lineno = node.lineno or 1
    tree.set_environment(cage)
    code: Any = cage.compile(tree)
    return jinja2.Template.from_code(cage, code, cage.globals), cage


def _length(value: Any) -> int:
    return len(value) if isinstance(value, (str, list, tuple, dict, range)) else 0


def _weight(value: Any, most: int) -> int:
    """Items and characters within a value, counted as often as they would be written; about ``most`` where
    there are more. Namespaces, which could hold one another, count as too much.
    """
    total, waiting = 0, [value]
    while waiting and total <= most:
        one = waiting.pop()
        if isinstance(one, Namespace):
            return most + 1
        if isinstance(one, (str, list, tuple, dict, range)):
            total += 1 + len(one)
        if isinstance(one, (list, tuple)) and total <= most:
            waiting += one
        elif isinstance(one, dict) and total <= most:
            waiting += [*one.keys(), *one.values()]
    return total


def _rounded(value: Any, precision: int = 0, method: str = "common") -> Any:
    if not -30 <= precision <= 30:
        raise ValueError("numbers have no such precision")
    return jinja2.filters.do_round(value, precision, method)  # pyright: ignore - wrong methods are errors there


def _date(layout: str) -> str:
    """The time in a format of ``strftime``; that of ``SOURCE_DATE_EPOCH`` where it is set."""
    if not cage_texts.DATE.fullmatch(layout):
        raise ValueError("no format of a date")
    fixed = os.environ.get("SOURCE_DATE_EPOCH", "")
    now = datetime.fromtimestamp(int(fixed)) if fixed.isdecimal() else datetime.now()
    return now.strftime(layout)


def _refused(message: str) -> None:
    raise UserError(f"{REFUSES}: {message}")
