"""Running a chat template, which came with a model and is foreign code, under limits.

jinja2's immutable sandbox keeps it from everything but its arguments; on top of that every template has an
allowance of effort, from which loops, calls and written text are paid, and no value may grow large::

    {% for a in range(99999) %}{% for b in range(99999) %}…      turns of loops
    {% set x = x ~ x %} again and again                           length of values
    {% set n.x = [n.x, n.x] %} again and again                    and of what lies within them
    {{ 'a' | center(999999999) }}                                 filters and methods that pad: not there
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from congling.core.errors import UserError

LONGEST = 1_000_000
"""Characters a template may write."""
_LARGEST = 100_000  # characters or items of a value; texts of messages never pass through a template
_SOURCE = 200_000  # characters of a template
_EFFORT = 50_000_000  # about a second; a written character costs 1
_TURN, _ITEM = 500, 10  # what a turn of a loop or a call costs, and a part of a value that is put together
_FILTERS = (
    "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "forceescape", "int", "items",
    "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "round",
    "safe", "select", "selectattr", "sort", "string", "sum", "title", "trim", "unique", "upper",
)  # fmt: skip
_PADDING = {"center", "ljust", "rjust", "zfill", "expandtabs", "format", "format_map", "translate"}


def run(source: str, messages: Sequence[Mapping[str, str]], **names: Any) -> str:
    """What a template writes for these messages.

    Raises:
        UserError: it is broken, refuses these messages, wants too much, or never ends.
    """
    if len(source) > _SOURCE:
        raise UserError("the chat template is too long to be one", value=len(source))
    parts, size = [], 0
    try:
        template, cage = _compiled(source)
        cage.effort = 0
        for part in template.generate(messages=messages, tools=None, documents=None, **names):
            parts.append(part)
            size += len(part)
            if size > LONGEST:
                raise UserError("the chat template writes without end", value=source)
    except (
        jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, RuntimeError, MemoryError,
        AttributeError,
    ) as error:  # fmt: skip
        raise UserError(f"the chat template does not work: {error}", value=source) from None
    return "".join(parts)


class _Cage(ImmutableSandboxedEnvironment):
    """The environment of one template: Hugging Face's settings, which templates are written for."""

    intercepted_binops = frozenset({"*", "**", "%", "+"})

    def __init__(self, source: str) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"], finalize=self._paid
        )
        self.source, self.effort = source, 0
        known = {name: self.filters[name] for name in _FILTERS}
        self.filters = known | {
            "join": self._join, "replace": self._replace, "tojson": self._json,
            "turns_": self._turns, "joined_": self._joined, "built_": self._built,
        }  # fmt: skip
        self.globals = {"range": self.globals["range"], "namespace": self.globals["namespace"],
                        "dict": dict, "raise_exception": _refused}  # fmt: skip

    def pay(self, price: int) -> None:
        """Take from the allowance.

        Raises:
            UserError: it is used up.
        """
        self.effort += price
        if self.effort > _EFFORT:
            raise UserError("the chat template works without end", value=self.source)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Stand in for operators that can make much of little; ``*`` and ``**`` are not there."""
        if operator == "+":
            return self._sized(left + right) if _length(left) + _length(right) <= _LARGEST else self._large()
        if operator == "%" and isinstance(left, int):
            return left % right
        raise jinja2.exceptions.SecurityError(f"chat templates need no {operator}")

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Without methods that pad a string to any length."""
        return attr not in _PADDING and super().is_safe_attribute(obj, attr, value)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function, method or macro; a macro may write its text anew each time."""
        self.pay(_TURN + (len(self.source) if isinstance(obj, Macro) else 0))
        text, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(text, str) and name == "replace":
            return self._replace(text, *args)
        if isinstance(text, str) and name == "join":
            return self._join(*args, d=text)
        found = super().call(context, obj, *args, **kwargs)
        if isinstance(found, Namespace):
            self._built(tuple(found._Namespace__attrs.values()))  # its only way in
        return self._built(found) if isinstance(found, (dict, list, tuple)) else found

    def _turns(self, items: Iterable[Any], text: int) -> Iterator[Any]:
        """Items of a loop whose body holds so much text."""
        for item in items:
            self.pay(_TURN + text)
            yield item

    def _built(self, value: Any) -> Any:
        """A value put together from others, which may stand for far more text than it has items."""
        size = _weight(value)
        self.pay(_ITEM * size)
        return value if size <= _LARGEST else self._large()

    def _json(self, value: Any, indent: int | None = None) -> str:
        spaces = None if indent is None else min(int(indent), 8)
        return self._sized(json.dumps(value, ensure_ascii=False, indent=spaces))

    def _paid(self, value: Any) -> Any:
        """A value about to be written."""
        self.pay(_length(value))
        return value

    def _joined(self, values: list[Any]) -> str:
        """``a ~ b ~ …``."""
        return self._join(values)

    def _join(self, values: Iterable[Any], d: str = "", attribute: str | None = None) -> str:
        if attribute is not None:
            values = [self.getitem(value, attribute) for value in values]
        parts, size = [], 0
        for value in values:
            parts.append(str(value))
            size += len(parts[-1]) + len(d)
            if size > _LARGEST:
                self._large()
        return d.join(parts)

    def _replace(self, text: Any, old: str, new: str, count: int = -1) -> str:
        text = str(text)
        if len(text) + text.count(old) * len(new) > _LARGEST:
            self._large()
        return text.replace(old, new, -1 if count is None else count)

    def _sized(self, value: Any) -> Any:
        return value if _length(value) <= _LARGEST else self._large()

    def _large(self) -> Any:
        raise UserError("the chat template makes a value without end", value=self.source)


class _Metered(NodeTransformer):
    """Puts the meters into a parsed template: loops pay their turns, what is put together is measured."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        """``for x in y`` becomes ``for x in y | turns_(length of the body)``."""
        self.generic_visit(node)
        text = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        node.iter = nodes.Filter(node.iter, "turns_", [nodes.Const(text)], [], None, None)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        """``a ~ b`` becomes ``[a, b] | joined_``."""
        self.generic_visit(node)
        return nodes.Filter(nodes.List(node.nodes), "joined_", [], [], None, None)

    def visit_Assign(self, node: nodes.Assign) -> nodes.Node:
        """``set n.x = y`` becomes ``set n.x = y | built_``: so nothing can hold itself."""
        self.generic_visit(node)
        if isinstance(node.target, nodes.NSRef):
            node.node = _measured(node.node)
        return node

    def visit_List(self, node: nodes.List) -> nodes.Node:
        """``[a, b]`` becomes ``[a, b] | built_``."""
        return _measured(self.generic_visit(node))

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        """``{a: b}`` becomes ``{a: b} | built_``."""
        return _measured(self.generic_visit(node))

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        """``(a, b)`` becomes ``(a, b) | built_``, but where it names what is assigned."""
        self.generic_visit(node)
        return _measured(node) if node.ctx == "load" else node


def _measured(node: Any) -> nodes.Expr:
    return nodes.Filter(node, "built_", [], [], None, None)


@lru_cache(maxsize=16)
def _compiled(source: str) -> tuple[jinja2.Template, _Cage]:
    cage = _Cage(source)
    tree = _Metered().visit(cage.parse(source))
    for node in tree.find_all(nodes.Node):
        node.lineno = node.lineno or 1
    tree.set_environment(cage)
    code: Any = cage.compile(tree)
    return jinja2.Template.from_code(cage, code, cage.globals), cage


def _length(value: Any) -> int:
    return len(value) if isinstance(value, (str, list, tuple, dict)) else 0


def _weight(value: Any) -> int:
    """Items and characters within a value, counted as often as they would be written; about that of _LARGEST
    where there are more. Namespaces, which could hold one another, count as too much.
    """
    total, waiting = 0, [value]
    while waiting and total <= _LARGEST:
        one = waiting.pop()
        if isinstance(one, Namespace):
            return _LARGEST + 1
        if isinstance(one, (str, list, tuple, dict, range)):
            total += 1 + len(one)
        if isinstance(one, (list, tuple)) and total <= _LARGEST:
            waiting += one
        elif isinstance(one, dict) and total <= _LARGEST:
            waiting += [*one.keys(), *one.values()]
    return total


def _refused(message: str) -> None:
    raise UserError(f"the chat template refuses these messages: {message}")
