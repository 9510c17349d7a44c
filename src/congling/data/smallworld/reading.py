"""Reading text back: which pattern stands here, and which choices made a whole document.

The grammar is unambiguous one pattern ahead (``proof.py`` shows it), so reading is linear in the length of
the text: at every choice at most one alternative fits, and the text of a document gives back its choices
and its probability.
"""

from collections.abc import Mapping
from math import log2
from typing import Any, NamedTuple

from congling.data.smallworld.config import Kind
from congling.data.smallworld.grammar import Choice, Grammar, Node, Pattern, Slot, compute
from congling.data.smallworld.lexicon import Category
from congling.data.smallworld.world import World

DIGITS = frozenset("0123456789")
NUMERALS = frozenset("零一二两兩三四五六七八九十百")
_LONGEST_NUMBER = 7


class Match(NamedTuple):
    """A pattern found in a text: where it ends, and the form read at each of its slots."""

    end: int
    forms: tuple[tuple[Slot, str, tuple[Any, ...]], ...]
    """Slot, form as written, and the (first) entry with that form."""


def match(pattern: Pattern, text: str, position: int, numbers: Category) -> Match | None:
    """Match one pattern at ``position``; slots take any entry of their category, and numbers any value."""
    forms: list[tuple[Slot, str, tuple[Any, ...]]] = []
    for token in pattern.tokens:
        if isinstance(token, str):
            if not text.startswith(token, position):
                return None
            position += len(token)
            continue
        form = _number_at(text, position) if token.category.numeric else _word_at(token, text, position)
        table = numbers if token.category.numeric else token.category
        entry = table.forms[token.attribute].get(form)
        if entry is None:
            return None
        forms.append((token, form, entry))
        position += len(form)
    return Match(position, tuple(forms))


def _word_at(slot: Slot, text: str, position: int) -> str:
    forms = slot.category.forms[slot.attribute]
    for length in slot.category.lengths[slot.attribute]:
        if text[position : position + length] in forms:
            return text[position : position + length]
    return ""


def _number_at(text: str, position: int) -> str:
    """The longest run of digits or of numerals."""
    kind = DIGITS if text[position : position + 1] in DIGITS else NUMERALS
    end = position
    while end < len(text) and end - position <= _LONGEST_NUMBER and text[end] in kind:
        end += 1
    return text[position:end]


def information(text: str, world: World, kind: Kind) -> float | None:
    """Bits of the choices that write ``text`` as a document of this kind: −log2 P(text | kind).

    None where the world cannot write it. The choice of the kind itself is not counted.
    """
    return grammar_information(text, world.grammars[kind], world.categories["number"])


def grammar_information(text: str, grammar: Grammar, numbers: Category) -> float | None:
    """Bits of the choices by which a grammar writes ``text``; None where it cannot."""
    reader = _Reader(grammar, text, numbers)
    bits = reader.read(grammar.nodes)
    return bits if reader.position == len(text) else None


def continuations(text: str, world: World, kind: Kind) -> tuple[list[Pattern], list[Any], Mapping[str, int]]:
    """Patterns that may come next where a document of this kind breaks off between two, at a choice.

    With the values of all variables read so far, and where each variable lives among them.
    """
    grammar = world.grammars[kind]
    reader = _Reader(grammar, text, world.categories["number"])
    reader.read(grammar.nodes)
    return reader.next, reader.values, grammar.places


class _Reader:
    def __init__(self, grammar: Grammar, text: str, numbers: Category) -> None:
        self.places: Mapping[str, int] = grammar.places
        self.values: list[Any] = [None] * grammar.width
        self.text, self.numbers = text, numbers
        self.position = 0
        self.next: list[Pattern] = []

    def read(self, nodes: tuple[Node, ...]) -> float | None:
        """Read a sequence from the present position: its bits, or None where it does not stand there."""
        total = 0.0
        for node in nodes:
            bits = self.choice(node) if isinstance(node, Choice) else self.pattern(node)
            if bits is None:
                return None
            total += bits
        return total

    def choice(self, node: Choice) -> float | None:
        start = self.position
        for alternative in node.alternatives:
            bits = self.read(alternative)
            if bits is not None:
                return node.bits + bits
            self.position = start
        if start == len(self.text):
            self.next = [first for first, *_ in node.alternatives if isinstance(first, Pattern)]
        return None

    def pattern(self, node: Pattern) -> float | None:
        found = match(node, self.text, self.position, self.numbers)
        if found is None or not self._bind(node, found) or not self._agrees(node, found):
            return None
        self.position = found.end
        return sum(log2(draw.size - len(draw.others)) for draw in node.draws)

    def _bind(self, node: Pattern, found: Match) -> bool:
        """Give the variables drawn here the entries read; False where such a draw is impossible."""
        for slot, _, entry in found.forms:
            if not slot.bound and slot.category.identifies(slot.attribute):
                place = self.places[slot.variable]
                self.values[place : place + len(entry)] = entry
        for draw in node.draws:
            entry = tuple(self.values[draw.start : draw.stop])
            if entry not in draw.entries or any(self.values[other] == entry[0] for other in draw.others):
                return False
        for start, left, right, operator, numbers in node.computed:
            value = compute(self.values[left + 3], operator, self.values[right + 3])
            if not 0 <= value < len(numbers):
                return False
            self.values[start : start + 4] = numbers[value]
        return True

    def _agrees(self, node: Pattern, found: Match) -> bool:
        """Whether every slot shows what its variable holds."""
        held = (self.values[self.places[slot.variable] + slot.attribute] for slot, _, _ in found.forms)
        return all(value == form for value, (_, form, _) in zip(held, found.forms, strict=True))
