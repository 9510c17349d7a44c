"""Score any text by the rules of the world: recognised text, facts that hold, couplets that match, sums, and
nothing told twice."""

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from itertools import islice

from congling.data.repetition import distinct_share, sentences
from congling.data.smallworld.config import Kind
from congling.data.smallworld.couplet_form import couplet_faults
from congling.data.smallworld.facts import Facts
from congling.data.smallworld.grammar import Choice, Node, Pattern, Slot
from congling.data.smallworld.reading import DIGITS, NUMERALS, Match, match
from congling.data.smallworld.world import World, world

_LIMIT = 100_000  # characters of a text that are looked at
_REASONS = 8
_NUMBERING = re.compile(r"\d")


@dataclass(frozen=True)
class Verdict:
    """What the rules say of a text; every score is from 0 to 1, and None where there was nothing to judge."""

    kind: Kind | None
    """The kind of document most of the recognised text belongs to."""
    grammar: float
    """Share of the characters that stand in a sentence of the world."""
    facts: float | None
    """Share of the statements that contradict nothing said before, answers among them."""
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

    Facts hold within a document: two stories in one text may contradict each other. Only the first 100,000
    characters are looked at.
    """
    text = text[:_LIMIT]
    verdicts = (_recognised(text, _Patterns.of(script)) for script in ("hans", "hant"))
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


def _recognised(text: str, patterns: _Patterns) -> Verdict:
    facts = Facts()
    lengths: Counter[Kind] = Counter()
    reasons: list[str] = []
    position = blank = 0
    while position < len(text):
        found = patterns.longest(text, position)
        if found is None:
            end = _sentence_end(text, position)
            blank += sum(character.isspace() for character in text[position:end])
            if text[position:end].strip():
                reasons.append(f"no sentence of this world: {text[position:end][:30]!r}")
            position = end
            continue
        kind, pattern, where = found
        facts.tell(pattern, where)
        lengths[kind] += where.end - position
        position = where.end
    faults = couplet_faults(text)
    reasons += facts.contradictions + facts.wrong_sums + [fault for fault in faults if fault]
    visible = len(text) - blank
    main = lengths.most_common(1)[0][0] if lengths else None
    distinct = distinct_share(sentences(text), times=2 if main == "arithmetic" else 1)
    if distinct < 1:
        reasons.append(f"{1 - distinct:.0%} of the sentences were told before")
    return Verdict(
        kind=main,
        grammar=min(1.0, lengths.total() / visible) if visible else 0.0,
        facts=_share(len(facts.contradictions), facts.checks),
        couplets=_share(sum(fault is not None for fault in faults), len(faults)),
        sums=_share(len(facts.wrong_sums), facts.sums),
        distinct=distinct,
        reasons=tuple(islice(reasons, _REASONS)),
    )


def _share(wrong: int, total: int) -> float | None:
    return max(0.0, 1.0 - wrong / total) if total else (0.0 if wrong else None)


def _sentence_end(text: str, position: int) -> int:
    """Where to look for a sentence again: behind the next mark that ends one."""
    for end in range(position, len(text)):
        if text[end] in "。！？，；：」”\n":
            return end + 1
    return len(text)
