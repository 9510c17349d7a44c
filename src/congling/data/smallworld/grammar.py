"""The world's grammar: what a sentence pattern is, and how a sequence of them is written by drawing choices.

A grammar is a nested structure of plain Python values, easy to read beside the text it makes::

    [                                              a list: one after the other
        "{time}，{who}来到{place}。",              a string: a sentence with slots
        ("{who.he}笑了。", "天黑了。", ""),        a tuple: one of these, each as likely; "" is nothing
    ]

A slot named for the first time is *drawn* from its category, uniformly, and different from every other slot
of that category; named again it shows what was drawn. ``{who.he}`` shows an attribute of the entry,
``{n+m}`` a number computed from two. What follows `` | `` in a pattern says what the sentence means (see
``facts.py``).

Every choice is thus uniform over a known number of possibilities, and shows in the text as soon as it is
made: that makes the probability of a text exact, and reading it back a matter of looking one pattern ahead
(``reading.py``).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from congling.data.smallworld.lexicon import Category

Source = str | list["Source"] | tuple["Source", ...]
"""What a grammar is written in: a pattern, a sequence, or a choice."""

SLOT = re.compile(r"\{(\w+?)(?:([-+*])(\w+?))?(?:\.(\w+))?\}")


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
    size: int
    others: tuple[int, ...]


class Computed(NamedTuple):
    """A number computed from those at ``left`` and ``right``, kept at ``start`` as ``numbers`` shows it."""

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
        """Write one document, drawing from uniform numbers in [0, 1); returns it and its bits."""
        pieces: list[str] = []
        bits = _write(self.nodes, [None] * self.width, random, pieces)
        return "".join(pieces), bits


def _write(
    nodes: tuple[Node, ...], values: list[Any], random: Callable[[], float], pieces: list[str]
) -> float:
    bits = 0.0
    for node in nodes:
        bits += node.bits
        if isinstance(node, Choice):
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


def numbered(source: Source, number: int) -> Source:
    """The same grammar with variables of its own, to say a thing again of others: ``{who}`` → ``{who2}``."""
    if isinstance(source, str):
        text, bar, meaning = source.partition(" | ")
        text = SLOT.sub(lambda slot: re.sub(r"(\{\w+|[-+*]\w+)", rf"\g<1>{number}", slot[0]), text)
        words = meaning.split(" ")
        names = {found[k] for found in SLOT.finditer(source) for k in (1, 3)}
        return text + bar + " ".join(f"{word}{number}" if word in names else word for word in words)
    parts = [numbered(item, number) for item in source]
    return parts if isinstance(source, list) else tuple(parts)
