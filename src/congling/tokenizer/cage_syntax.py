"""Parsed chat templates, changed so that their loops and what they put together are measured (``cage``)."""

from typing import Any

from jinja2 import ext, nodes
from jinja2.parser import Parser
from jinja2.visitor import NodeTransformer


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
        node.iter = nodes.Filter(node.iter, "turns_", [nodes.Const(text)], [], None, None)
        return node

    def visit_Operand(self, node: nodes.Operand) -> nodes.Node:
        """``in y`` becomes ``in y | searched_``: the items of ``y`` are paid."""
        self.generic_visit(node)
        if node.op in ("in", "notin"):
            node.expr = nodes.Filter(node.expr, "searched_", [], [], None, None)
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
