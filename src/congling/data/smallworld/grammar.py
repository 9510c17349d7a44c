"""The world's grammar: what a sentence pattern is, and how a sequence of them is written by drawing choices.

A grammar is a nested structure of plain Python values, easy to read beside the text it makes::

    [                                              a list: one after the other
        "{time}，{who}来到{place}。",              a string: a sentence with slots
        ("{who.he}笑了。", "天黑了。", ""),        a tuple: one of these, each as likely; "" is nothing
    ]

A slot named for the first time is *drawn* from its category, uniformly, and different from every other slot of
that category; named again it shows what was drawn. ``{who.he}`` shows an attribute of the entry, ``{n+m}`` a number
computed from two. What follows `` | `` in a pattern says what the sentence means (see ``facts.py``).

Every choice is thus uniform over a known number of possibilities, and shows in the text as soon as it is made:
that makes the probability of a text exact, and reading it back a matter of looking one pattern ahead (``reading.py``).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import log2
from operator import itemgetter
from typing import Any, NamedTuple

from congling.data.smallworld.lexicon import Category

Source = str | list["Source"] | tuple["Source", ...]
"""What a grammar is written in: a pattern, a sequence, or a choice."""

_SLOT = re.compile(r"\{(\w+?)(?:([-+*])(\w+?))?(?:\.(\w+))?\}")


class Slot(NamedTuple):
    """A gap of a pattern: which variable it shows, and how."""

    variable: str
    category: Category
    attribute: int
    bound: bool
    """Whether the variable has its value before this pattern begins, or is computed."""


class Draw(NamedTuple):
    """A uniform draw of an entry into ``values[start:stop]``, different from the entries at ``others``."""

    start: int
    stop: int
    entries: tuple[tuple[Any, ...], ...]
    count: int
    others: tuple[int, ...]


class Computed(NamedTuple):
    """A number computed from those at ``left`` and ``right``, kept at ``start``; ``numbers`` holds its forms."""

    start: int
    left: int
    right: int
    operator: str
    numbers: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """A compiled sentence pattern."""

    tokens: tuple[str | Slot, ...]
    layout: str
    """A %-format of the text."""
    show: Callable[[list[Any]], Any] | None
    """Takes what the format needs out of the values."""
    draws: tuple[Draw, ...]
    computed: tuple[Computed, ...]
    bits: float
    """Information in the draws: the sum of log2(possibilities)."""
    meaning: str

    def text(self, values: list[Any]) -> str:
        """The text for values already drawn; fills in the computed ones."""
        for start, left, right, operator, numbers in self.computed:
            values[start : start + 4] = numbers[compute(values[left + 3], operator, values[right + 3])]
        return self.layout if self.show is None else self.layout % self.show(values)


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """One of several sequences, each as likely."""

    alternatives: tuple[tuple["Pattern | Choice", ...], ...]
    count: int
    bits: float


Node = Pattern | Choice


@dataclass(frozen=True, slots=True, eq=False)
class Grammar:
    """A compiled grammar: its sequence, and where each variable lives in the list of values."""

    nodes: tuple[Node, ...]
    places: Mapping[str, int]
    width: int

    def write(self, random: Callable[[], float]) -> tuple[str, float]:
        """Write one document with a source of uniform numbers in [0, 1); returns it and its information in bits."""
        pieces: list[str] = []
        bits = _write(self.nodes, [None] * self.width, random, pieces)
        return "".join(pieces), bits


def _write(
    nodes: tuple[Node, ...], values: list[Any], random: Callable[[], float], pieces: list[str]
) -> float:
    bits = 0.0
    for node in nodes:
        bits += node.bits
        if node.__class__ is Choice:
            bits += _write(node.alternatives[int(random() * node.count)], values, random, pieces)
            continue
        for start, stop, entries, count, others in node.draws:
            entry = entries[int(random() * count)]
            while others and any(values[other] == entry[0] for other in others):
                entry = entries[int(random() * count)]  # drawing again leaves the rest uniform
            values[start:stop] = entry
        for start, left, right, operator, numbers in node.computed:
            values[start : start + 4] = numbers[compute(values[left + 3], operator, values[right + 3])]
        pieces.append(node.layout if node.show is None else node.layout % node.show(values))
    return bits


def some_of(items: tuple[Source, ...], number: int) -> Source:
    """``number`` different items, in any order."""
    if number == 1:
        return items
    return tuple([first, some_of(tuple(i for i in items if i is not first), number - 1)] for first in items)


def compute(left: int, operator: str, right: int) -> int:
    """``left + right``, ``left - right`` or ``left * right``."""
    return left + right if operator == "+" else left - right if operator == "-" else left * right


def compile_grammar(
    source: Source,
    categories: Mapping[str, Category],
    aliases: Mapping[str, str],
    translate: Callable[[str], str] = str,
) -> Grammar:
    """Compile a grammar, its literal text passed through ``translate``.

    ``aliases`` names the category of variables that are not called after theirs.

    Raises:
        ValueError: an unknown category or attribute, a slot whose text would not tell what was drawn, or a variable
            that only some ways to get here have given a value.
    """
    compiler = _Compiler(categories, aliases, translate)
    nodes, _ = compiler.sequence(source, _Known(frozenset(), frozenset()))
    return Grammar(nodes, compiler.places, compiler.width)


def numbered(source: Source, number: int) -> Source:
    """The same grammar with variables of its own: ``{who}`` becomes ``{who2}``; for saying a thing again, of others."""
    if isinstance(source, str):
        text, bar, meaning = source.partition(" | ")
        text = _SLOT.sub(lambda slot: re.sub(r"(\{\w+|[-+*]\w+)", rf"\g<1>{number}", slot[0]), text)
        words = meaning.split(" ")
        names = {found[k] for found in _SLOT.finditer(source) for k in (1, 3)}
        return text + bar + " ".join(f"{word}{number}" if word in names else word for word in words)
    parts = [numbered(item, number) for item in source]
    return parts if isinstance(source, list) else tuple(parts)


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
                nodes.append(Choice(tuple(nodes for nodes, _ in compiled), len(compiled), log2(len(compiled))))
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
        for found in _SLOT.finditer(text):
            tokens += [self.translate(text[position : found.start()])] if found.start() > position else []
            position = found.end()
            slot = self.slot(found, known.bound)
            tokens.append(slot)
            if found[2]:
                left, right = (self.places[found[k]] for k in (1, 3))
                computed.append(Computed(self.place(slot), left, right, found[2], self.categories["number"].entries))
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
        bits = sum(log2(draw.count - len(draw.others)) for draw in draws)
        show = itemgetter(*shown) if shown else None
        return Pattern(tuple(tokens), layout, show, tuple(draws), tuple(computed), bits, meaning), known._replace(bound=after)

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
