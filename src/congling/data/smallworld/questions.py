"""Problems with answers that a rule can judge, taken from documents: questions, sums, couplets."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from congling.data.document import Document
from congling.data.final_answer import same
from congling.data.smallworld.config import Kind
from congling.data.smallworld.couplet_form import couplet_fault
from congling.data.smallworld.facts import statements
from congling.data.smallworld.grammar import Pattern, Slot
from congling.data.smallworld.long.asking import asked
from congling.data.smallworld.reading import continuations
from congling.data.smallworld.script import to_simplified, to_traditional
from congling.data.smallworld.world import world

_WRONG = 3
_SUM = re.compile(r"(.*(?:=|等于|等於))(.+?)(。?)")


@dataclass(frozen=True)
class Problem:
    """A text to go on from, the right answer, and wrong ones of the same sort."""

    kind: Kind
    prompt: str
    answer: str
    wrong: tuple[str, ...]
    distance: int | None = None
    """Of a long document: characters between the end of the first line that the answer needs and the place
    where it is asked for."""

    def right(self, answer: str) -> bool:
        """Judge an answer: a couplet by its form, a number by value, the rest as text (``final_answer``)."""
        answer = answer.strip()
        if self.kind != "couplets":
            return same(answer, self.answer)
        upper = self.prompt.removesuffix("，")
        return couplet_fault(upper, answer.removesuffix("。")) is None


def problems(document: Document, script: Literal["hans", "hant"] = "hans") -> list[Problem]:
    """Problems that a document of the world holds: all questions about a story, each sum, each line of
    couplets, and each question and copy of a long document.

    A dictionary has none. Wrong answers are of the same category as the right one, people of the story first.
    """
    kind = document.meta["kind"]
    if kind in ("story", "questions"):
        story = document.text.partition("\n")[0]
        patterns, values, places = continuations(story, world(script), "questions")
        return [_question(story, pattern, list(values), dict(places)) for pattern in patterns]
    if kind == "long":
        return list(_long(document.text, script))
    if kind == "arithmetic":
        return list(_sums(document.text))
    return list(_couplets(document.text)) if kind == "couplets" else []


def _question(story: str, pattern: Pattern, values: list[Any], places: dict[str, int]) -> Problem:
    question, answer = _split(pattern.text(values))
    name = statements(pattern.meaning)[0].values[0]
    slot = next(token for token in pattern.tokens if isinstance(token, Slot) and token.variable == name)
    place = places[name]
    entry = tuple(values[place : place + len(slot.category.entries[0])])
    entries = list(slot.category.entries)
    index = entries.index(entry)
    others = entries[index + 1 :] + entries[:index]
    if slot.category.numeric:
        others.sort(key=lambda other: abs(other[3] - entry[3]))
    else:  # what the story mentions makes the harder wrong answers
        others.sort(key=lambda other: str(other[0]) not in story)
    wrong = []
    for other in others:
        values[place : place + len(other)] = other
        changed = pattern.layout if pattern.show is None else pattern.layout % pattern.show(values)
        if _split(changed)[0] == question:
            wrong.append(_split(changed)[1])
    return Problem("questions", f"{story}{question}", answer, tuple(wrong[:_WRONG]))


def _long(text: str, script: Literal["hans", "hant"]) -> Iterator[Problem]:
    turn = to_traditional if script == "hant" else str
    for found in asked(to_simplified(text) if script == "hant" else text):
        wrong = tuple(map(turn, found.wrong))
        yield Problem("long", text[: found.start], turn(found.answer), wrong, found.distance)


def _split(text: str) -> tuple[str, str]:
    """Split "問…？\\n答：…" behind 答：."""
    at = text.index("\n答：") + len("\n答：")
    return text[:at], text[at:]


def _sums(text: str) -> Iterator[Problem]:
    lines = [found for line in text.splitlines() if (found := _SUM.fullmatch(line))]
    answers = [found[2] for found in lines]
    for found in lines:
        alike = [other for other in answers if other != found[2] and other.isdigit() == found[2].isdigit()]
        wrong = tuple(other + found[3] for other in dict.fromkeys(alike))
        yield Problem("arithmetic", found[1], found[2] + found[3], wrong[:_WRONG])


def _couplets(text: str) -> Iterator[Problem]:
    lines = [line.split("，") for line in text.splitlines() if line.count("，") == 1]
    for upper, lower in lines:
        wrong = [other for _, other in lines if couplet_fault(upper, other.removesuffix("。")) is not None]
        yield Problem("couplets", f"{upper}，", lower, tuple(wrong)[:_WRONG])
