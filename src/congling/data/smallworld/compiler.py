"""Compiling a grammar: which slots draw, which only show, and what has to be unlike what."""

import re
from collections.abc import Callable, Mapping
from math import log2
from operator import itemgetter
from typing import NamedTuple

from congling.data.smallworld.grammar import (
    SLOT,
    Choice,
    Computed,
    Draw,
    Grammar,
    Node,
    Pattern,
    Slot,
    Source,
)
from congling.data.smallworld.lexicon import Category


def compile_grammar(
    source: Source,
    categories: Mapping[str, Category],
    aliases: Mapping[str, str],
    translate: Callable[[str], str] = str,
) -> Grammar:
    """Compile a grammar, its literal text passed through ``translate``.

    ``aliases`` names the category of variables that are not called after theirs.

    Raises:
        ValueError: an unknown category or attribute, a slot whose text would not tell what was drawn, or a
        variable
            that only some ways to get here have given a value.
    """
    compiler = _Compiler(categories, aliases, translate)
    nodes, _ = compiler.sequence(source, _Known(frozenset(), frozenset()))
    return Grammar(nodes, compiler.places, compiler.width)


class _Known(NamedTuple):
    """Variables at some point of a grammar: those that have a value for sure, and those that may have one."""

    bound: frozenset[str]
    uncertain: frozenset[str]


class _Compiler:
    def __init__(
        self, categories: Mapping[str, Category], aliases: Mapping[str, str], translate: Callable[[str], str]
    ) -> None:
        self.categories, self.aliases, self.translate = categories, aliases, translate
        self.places: dict[str, int] = {}
        self.width = 0

    def sequence(self, source: Source, known: _Known) -> tuple[tuple[Node, ...], _Known]:
        nodes: list[Node] = []
        for item in source if isinstance(source, list) else [source]:
            if isinstance(item, str):
                if item:
                    node, known = self.pattern(item, known)
                    nodes.append(node)
            elif isinstance(item, list):
                inner, known = self.sequence(item, known)
                nodes += inner
            else:
                # the empty alternative comes last, so that a reader tries it last
                ordered = sorted(item, key=lambda alternative: alternative == "")
                compiled = [self.sequence(alternative, known) for alternative in ordered]
                alternatives = tuple(nodes for nodes, _ in compiled)
                nodes.append(Choice(alternatives, len(compiled), log2(len(compiled))))
                bound = frozenset.intersection(*(after.bound for _, after in compiled))
                seen = frozenset.union(*(after.bound | after.uncertain for _, after in compiled))
                known = _Known(bound, seen - bound)
        return tuple(nodes), known

    def pattern(self, source: str, known: _Known) -> tuple[Pattern, _Known]:
        text, _, meaning = source.partition(" | ")
        tokens: list[str | Slot] = []
        draws: list[Draw] = []
        computed: list[Computed] = []
        shown: list[int] = []
        after, position = known.bound, 0
        for found in SLOT.finditer(text):
            tokens += [self.translate(text[position : found.start()])] if found.start() > position else []
            position = found.end()
            slot = self.slot(found, known.bound)
            tokens.append(slot)
            if found[2]:
                left, right = (self.places[found[k]] for k in (1, 3))
                numbers = self.categories["number"].entries
                computed.append(Computed(self.place(slot), left, right, found[2], numbers))
            elif slot.variable in known.uncertain:
                raise ValueError(f"{slot.variable!r} has a value only sometimes before {source!r}")
            elif slot.variable not in after:
                draws.append(self.draw(slot, after))
            after |= {slot.variable}
            shown.append(self.place(slot) + slot.attribute)
        tokens += [self.translate(text[position:])] if position < len(text) else []
        for name in after - known.bound:
            slots = [token for token in tokens if isinstance(token, Slot) and token.variable == name]
            if not any(slot.bound or slot.category.identifies(slot.attribute) for slot in slots):
                raise ValueError(f"{source!r} does not show which {name!r} was drawn")
        layout = "".join(token if isinstance(token, str) else "%s" for token in tokens)
        bits = sum(log2(draw.size - len(draw.others)) for draw in draws)
        show = itemgetter(*shown) if shown else None
        pattern = Pattern(tuple(tokens), layout, show, tuple(draws), tuple(computed), bits, meaning)
        return pattern, known._replace(bound=after)

    def slot(self, found: re.Match[str], bound: frozenset[str]) -> Slot:
        variable, operator, _, attribute = found.groups()
        if operator:
            variable = found[0].strip("{}").partition(".")[0]
        category = self.categories.get("number" if operator else self.category_name(variable))
        if category is None or (attribute and attribute not in category.attributes):
            raise ValueError(f"no such category or attribute: {found[0]}")
        index = category.attributes.index(attribute) if attribute else 0
        return Slot(variable, category, index, bool(operator) or variable in bound)

    def category_name(self, variable: str) -> str:
        bare = variable.rstrip("0123456789")
        return self.aliases.get(bare, bare)

    def place(self, slot: Slot) -> int:
        if slot.variable not in self.places:
            self.places[slot.variable] = self.width
            self.width += len(slot.category.attributes) + slot.category.numeric
        return self.places[slot.variable]

    def draw(self, slot: Slot, bound: frozenset[str]) -> Draw:
        category = slot.category
        same = (name for name in sorted(bound) if self.category_name(name) == category.name)
        others = () if category.numeric else tuple(self.places[name] for name in same)
        start = self.place(slot)
        width = len(category.attributes) + category.numeric
        return Draw(start, start + width, category.entries, len(category.entries), others)
