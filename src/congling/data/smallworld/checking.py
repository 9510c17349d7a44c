"""Score any text by the rules of the world: recognised text, facts that hold, couplets that match, sums, and
nothing told twice."""

import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from typing import Literal

from congling.data.repetition import distinct_share, sentences
from congling.data.smallworld.config import Kind
from congling.data.smallworld.couplet_form import couplet_faults
from congling.data.smallworld.facts import Facts
from congling.data.smallworld.grammar import Choice, Node, Pattern, Slot
from congling.data.smallworld.long.judging import distinct, is_long, pieces
from congling.data.smallworld.long.lines import Line
from congling.data.smallworld.reading import DIGITS, NUMERALS, Match, match
from congling.data.smallworld.script import to_simplified
from congling.data.smallworld.world import World, world

_LIMIT = 100_000  # characters of a text that are looked at
_REASONS = 8
_SCRIPTS: tuple[Literal["hans", "hant"], ...] = ("hans", "hant")
_NUMBERING = re.compile(r"\d")


@dataclass(frozen=True)
class Verdict:
    """What the rules say of a text; every score is from 0 to 1, and None where there was nothing to judge."""

    kind: Kind | None
    """The kind of document most of the recognised text belongs to."""
    grammar: float
    """Share of the characters that stand in a sentence of the world."""
    facts: float | None
    """Share of the statements that contradict nothing said before, answers and copies among them."""
    couplets: float | None
    """Share of the lines of couplets whose sides match, place by place."""
    sums: float | None
    """Share of the sums that are right."""
    distinct: float
    """Share of the sentences that were not told before; a sum may return once."""
    reasons: tuple[str, ...]
    """The first things that are wrong."""

    @property
    def score(self) -> float:
        """Product of all that could be judged: 1 is faultless, 0 has not one sentence of the world."""
        score = self.grammar * self.distinct
        for part in (self.facts, self.couplets, self.sums):
            score *= 1.0 if part is None else part
        return score


def check(text: str) -> Verdict:
    """Judge one document in either script; never raises, and takes time linear in its length.

    Facts hold within a document: two stories in one text may contradict each other, unless they are lines of
    a long document. Only the first 100,000 characters are looked at.
    """
    text = text[:_LIMIT]
    verdicts = [_judged(text, script) for script in _SCRIPTS]
    return max(verdicts, key=lambda verdict: verdict.grammar)


class _Patterns:
    """All patterns of a world, found by the character they begin with."""

    def __init__(self, world: World) -> None:
        self.numbers = world.categories["number"]
        self.by_first: dict[str, list[tuple[Kind, Pattern]]] = {}
        seen: set[tuple[object, ...]] = set()
        for kind, grammar in world.grammars.items():
            for pattern in _walk(grammar.nodes):
                signature = tuple(
                    token if isinstance(token, str) else (_NUMBERING.sub("", token.variable), token.attribute)
                    for token in pattern.tokens
                )
                if signature not in seen:
                    seen.add(signature)
                    for character in _first_characters(pattern.tokens[0]):
                        self.by_first.setdefault(character, []).append((kind, pattern))

    def longest(self, text: str, position: int) -> tuple[Kind, Pattern, Match] | None:
        """The pattern that takes most of the text at ``position``; the first of equals."""
        best = None
        for kind, pattern in self.by_first.get(text[position], ()):
            found = match(pattern, text, position, self.numbers)
            if found is not None and (best is None or found.end > best[2].end):
                best = (kind, pattern, found)
        return best

    @staticmethod
    @cache
    def of(script: str) -> "_Patterns":
        return _Patterns(world("hant" if script == "hant" else "hans"))


def _walk(nodes: tuple[Node, ...]) -> list[Pattern]:
    found: list[Pattern] = []
    for node in nodes:
        if isinstance(node, Choice):
            found += [pattern for alternative in node.alternatives for pattern in _walk(alternative)]
        else:
            found.append(node)
    return found


def _first_characters(token: str | Slot) -> set[str] | frozenset[str]:
    if isinstance(token, str):
        return {token[0]}
    if token.category.numeric:
        return DIGITS if token.category.attributes[token.attribute] == "digits" else NUMERALS
    return {form[0] for form in token.category.forms[token.attribute]}


@dataclass
class _Tally:
    """What was found in a text so far."""

    visible: int = 0
    lengths: Counter[Kind] = field(default_factory=Counter)
    contradictions: list[str] = field(default_factory=list)
    wrong_sums: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    couplets: list[str | None] = field(default_factory=list)
    checks: int = 0
    sums: int = 0

    def read(self, text: str, patterns: _Patterns) -> None:
        """Take in sentences, whose facts hold among themselves."""
        facts = Facts()
        position = blank = 0
        while position < len(text):
            found = patterns.longest(text, position)
            if found is None:
                end = _sentence_end(text, position)
                blank += sum(character.isspace() for character in text[position:end])
                if text[position:end].strip():
                    self.unknown.append(f"no sentence of this world: {text[position:end][:30]!r}")
                position = end
                continue
            kind, pattern, where = found
            facts.tell(pattern, where)
            self.lengths[kind] += where.end - position
            position = where.end
        self.visible += len(text) - blank
        self.contradictions += facts.contradictions
        self.wrong_sums += facts.wrong_sums
        self.couplets += couplet_faults(text)
        self.checks += facts.checks
        self.sums += facts.sums

    def verdict(self, kind: Kind | None, distinct: float) -> Verdict:
        """All of it together."""
        reasons = self.unknown + self.contradictions + self.wrong_sums
        reasons += [fault for fault in self.couplets if fault]
        if distinct < 1:
            reasons.append(f"{1 - distinct:.0%} of the sentences were told before")
        return Verdict(
            kind=kind,
            grammar=min(1.0, self.lengths.total() / self.visible) if self.visible else 0.0,
            facts=_share(len(self.contradictions), self.checks),
            couplets=_share(sum(fault is not None for fault in self.couplets), len(self.couplets)),
            sums=_share(len(self.wrong_sums), self.sums),
            distinct=distinct,
            reasons=tuple(islice(reasons, _REASONS)),
        )


def _judged(text: str, script: Literal["hans", "hant"]) -> Verdict:
    """Judge a text as one of this script."""
    simplified = to_simplified(text) if script == "hant" else text
    if is_long(simplified):
        return _judged_lines(simplified)
    tally = _Tally()
    tally.read(text, _Patterns.of(script))
    main = tally.lengths.most_common(1)[0][0] if tally.lengths else None
    return tally.verdict(main, distinct_share(sentences(text), times=2 if main == "arithmetic" else 1))


def _judged_lines(text: str) -> Verdict:
    """Judge a long document line by line; what people do in its stories is true in that story alone."""
    tally, lines = _Tally(), Counter[Line]()
    for piece, line, fault in pieces(text):
        lines[line or Line("story", (piece,))] += 1
        if line is None:
            tally.read(piece, _Patterns.of("hans"))
            continue
        tally.lengths["long"] += len(piece)
        tally.visible += len(piece)
        tally.checks += 1
        tally.contradictions += [fault] if fault else []
    once, told = distinct(lines)
    return tally.verdict("long", once / told)


def _share(wrong: int, total: int) -> float | None:
    return max(0.0, 1.0 - wrong / total) if total else (0.0 if wrong else None)


def _sentence_end(text: str, position: int) -> int:
    """Where to look for a sentence again: behind the next mark that ends one."""
    for end in range(position, len(text)):
        if text[end] in "。！？，；：」”\n":
            return end + 1
    return len(text)
