"""Choices of a long document, made by chance or by a text that has them: the same rules write and read.

A rule asks for one of several possibilities; ``Drawn`` draws it, ``Given`` takes what the line to be read
says. Both add up the information, −log2 of the probability of what was chosen.
"""

from bisect import bisect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from itertools import accumulate
from math import log2, prod
from typing import Protocol

from congling.data.smallworld.compiler import compile_grammar
from congling.data.smallworld.grammar import Grammar
from congling.data.smallworld.lexicon import categories
from congling.data.smallworld.long.lines import CHARACTERS, LENGTHS, Line
from congling.data.smallworld.reading import grammar_information
from congling.data.smallworld.stories import ALIASES, OPENING
from congling.data.smallworld.world import world

_CHARACTER_BITS = log2(len(CHARACTERS))
_LENGTH_BITS = log2(len(LENGTHS))


class ImpossibleError(Exception):
    """What a text has is not among the possibilities."""


class Choices(Protocol):
    """Where choices come from."""

    bits: float
    """Information of all choices so far."""

    def kind(self, weights: Mapping[str, int]) -> str:
        """A kind of line."""
        ...

    def one(self, options: Sequence[str]) -> str:
        """One word, each as likely."""
        ...

    def unused(self, used: Collection[tuple[str, ...]], *parts: Sequence[str]) -> tuple[str, ...]:
        """A word of each part, each row that is not ``used`` as likely."""
        ...

    def near(self, rows: Sequence[tuple[str, ...]], weights: Sequence[float]) -> int:
        """The number of a row of words, by weight."""
        ...

    def copied(self) -> str:
        """Characters to be copied."""
        ...

    def filler(self, kind: str) -> str:
        """The text of a scene or a story, without its line break."""
        ...


class Drawn:
    """Choices made by chance, from uniform numbers in [0, 1)."""

    def __init__(self, random: Callable[[], float]) -> None:
        self.random, self.bits = random, 0.0

    def kind(self, weights: Mapping[str, int]) -> str:
        """Draw by weight; the numbers are small and whole, so this is the same everywhere."""
        ends = list(accumulate(weights.values()))
        at = bisect(ends, int(self.random() * ends[-1]))
        kind = tuple(weights)[at]
        self.bits += log2(ends[-1] / weights[kind])
        return kind

    def one(self, options: Sequence[str]) -> str:
        """Draw uniformly."""
        self.bits += log2(len(options))
        return options[int(self.random() * len(options))]

    def unused(self, used: Collection[tuple[str, ...]], *parts: Sequence[str]) -> tuple[str, ...]:
        """Draw again until it is new, which leaves the rest uniform."""
        self.bits += log2(prod(map(len, parts)) - len(used))
        while True:
            row = tuple([part[int(self.random() * len(part))] for part in parts])
            if row not in used:
                return row

    def near(self, rows: Sequence[tuple[str, ...]], weights: Sequence[float]) -> int:
        """Draw by weight."""
        ends = list(accumulate(weights))
        at = min(bisect(ends, self.random() * ends[-1]), len(ends) - 1)
        self.bits += log2(ends[-1] / weights[at])
        return at

    def copied(self) -> str:
        """Draw a length, then each character."""
        random, count = self.random, len(CHARACTERS)
        length = LENGTHS[int(random() * len(LENGTHS))]
        self.bits += _LENGTH_BITS + length * _CHARACTER_BITS
        return "".join([CHARACTERS[int(random() * count)] for _ in range(length)])

    def filler(self, kind: str) -> str:
        """Let a grammar write."""
        text, bits = grammar(kind).write(self.random)
        self.bits += bits
        return text


class Given:
    """Choices that a line has made already."""

    def __init__(self, line: Line) -> None:
        self.line, self.bits = line, 0.0
        self._words: Iterator[str] = iter(line.words)

    def kind(self, weights: Mapping[str, int]) -> str:
        """The kind of the line."""
        kind = self.line.kind.partition("-")[0]
        if kind not in weights:
            raise ImpossibleError
        self.bits += log2(sum(weights.values()) / weights[kind])
        return kind

    def one(self, options: Sequence[str]) -> str:
        """The next word."""
        word = next(self._words)
        if word not in options:
            raise ImpossibleError
        self.bits += log2(len(options))
        return word

    def unused(self, used: Collection[tuple[str, ...]], *parts: Sequence[str]) -> tuple[str, ...]:
        """The next words."""
        row = tuple(next(self._words) for _ in parts)
        if row in used or any(word not in part for word, part in zip(row, parts, strict=True)):
            raise ImpossibleError
        self.bits += log2(prod(map(len, parts)) - len(used))
        return row

    def near(self, rows: Sequence[tuple[str, ...]], weights: Sequence[float]) -> int:
        """The row that the line begins with, the topic of a question before it."""
        topic = self.line.kind.partition("-")[2]
        words = (topic, *self.line.words) if topic else self.line.words
        for at, row in enumerate(rows):
            if row == words[: len(row)]:
                self.bits += log2(sum(weights) / weights[at])
                return at
        raise ImpossibleError

    def copied(self) -> str:
        """The last word."""
        text = self.line.words[-1]
        if len(text) not in LENGTHS or not set(text) <= set(CHARACTERS):
            raise ImpossibleError
        self.bits += _LENGTH_BITS + len(text) * _CHARACTER_BITS
        return text

    def filler(self, kind: str) -> str:
        """The whole line."""
        text = next(self._words)
        bits = grammar_information(text, grammar(kind), categories("hans")["number"])
        if bits is None:
            raise ImpossibleError
        self.bits += bits
        return text


@cache
def grammar(kind: str) -> Grammar:
    """What writes scenes and stories: a scene is how a story begins, and never a whole one."""
    if kind == "story":
        return world("hans").grammars["story"]
    return compile_grammar([*OPENING], categories("hans"), ALIASES)
