"""Parsed chat templates, changed so that their loops and what they put together are measured
(``sandbox``)."""

from typing import Any

from jinja2 import Environment, ext, nodes
from jinja2.exceptions import TemplateSyntaxError
from jinja2.parser import Parser
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from congling.core.errors import UserError

_SOURCE, _TAGS, _NODES = 100_000, 2_000, 10_000  # characters of a template, its tags, parts of its syntax


def parsed(environment: Environment, source: str) -> nodes.Template:
    """The syntax of a template of a size that one can have.

    Raises:
        UserError: it is larger.
        TemplateSyntaxError: it is no template.
    """
    long = len(source) > _SOURCE or source.count("{{") + source.count("{%") > _TAGS
    tree = None if long else environment.parse(source)
    if tree is None or sum(1 for _ in tree.find_all(nodes.Node)) > _NODES:
        raise UserError("the chat template is too long to be one", value=source)
    return tree


class Notes(Namespace):
    """``namespace(…)``; written, it does not tell its values, of which each may be long."""

    def __repr__(self) -> str:
        return "<Namespace>"


class Generation(ext.Extension):
    """``{% generation %}…{% endgeneration %}`` of transformers: what is learnt is known here without it."""

    tags = {"generation"}  # noqa: RUF012 - jinja's own form

    def parse(self, parser: Parser) -> nodes.Node:
        """The body alone, which keeps its variables to itself."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class Metered(NodeTransformer):
    """Puts the meters into a parsed template: loops pay their turns, what is put together is measured."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        """``for x in y`` becomes ``for x in y | turns_(length of the body)``."""
        self.generic_visit(node)
        text = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        node.iter = _applied("turns_", node.iter, nodes.Const(text))
        return node

    def visit_Operand(self, node: nodes.Operand) -> nodes.Node:
        """``in y`` becomes ``in y | read_``: the items of ``y`` are paid."""
        self.generic_visit(node)
        if node.op in ("in", "notin"):
            node.expr = _applied("read_", node.expr)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        """``x == y`` becomes ``x | read_ == y``, but with a constant, which is as short as the template."""
        self.generic_visit(node)
        if not any(isinstance(one, nodes.Const) for one in (node.expr, *(op.expr for op in node.ops))):
            node.expr = _applied("read_", node.expr)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        """``x[1:]`` becomes ``x[1:] | sliced_``: what is copied is paid."""
        self.generic_visit(node)
        return _applied("sliced_", node) if isinstance(node.arg, nodes.Slice) else node

    def visit_ScopedEvalContextModifier(self, node: nodes.Node) -> nodes.Node:
        """``{% autoescape %}`` would lose who wrote what.

        Raises:
            TemplateSyntaxError: always.
        """
        raise TemplateSyntaxError("chat templates are no HTML", node.lineno)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        """``a ~ b`` becomes ``[a, b] | joined_``."""
        self.generic_visit(node)
        return _applied("joined_", nodes.List(node.nodes))

    def visit_Assign(self, node: nodes.Assign) -> nodes.Node:
        """``set n.x = y`` becomes ``set n.x = y | made_``: so nothing can hold itself."""
        self.generic_visit(node)
        if isinstance(node.target, nodes.NSRef):
            node.node = _applied("made_", node.node)
        return node

    def visit_List(self, node: nodes.List) -> nodes.Node:
        """``[a, b]`` becomes ``[a, b] | made_``."""
        return _applied("made_", self.generic_visit(node))

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        """``{a: b}`` becomes ``{a: b} | made_``."""
        return _applied("made_", self.generic_visit(node))

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        """``(a, b)`` becomes ``(a, b) | made_``, but where it names what is assigned."""
        self.generic_visit(node)
        return _applied("made_", node) if node.ctx == "load" else node


def _applied(name: str, node: Any, *arguments: nodes.Expr) -> nodes.Expr:
    """``node | name(arguments)``."""
    return nodes.Filter(node, name, list(arguments), [], None, None)
