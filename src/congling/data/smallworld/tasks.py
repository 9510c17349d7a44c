"""Tasks with one right answer, or a rule that knows all of them, drawn from the world one by one.

::

    questions   a story and a question about it       one answer
    couplets    an upper line                         any lower line that matches it
    arithmetic  a sum in digits or in words           one number
    story       the first sentence of a story         any rest of a story that contradicts nothing
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from random import Random
from zlib import crc32

from congling.data.document import Document
from congling.data.final_answer import value
from congling.data.repetition import sentences
from congling.data.smallworld import arithmetic, couplets
from congling.data.smallworld.checking import check
from congling.data.smallworld.compiler import compile_grammar
from congling.data.smallworld.couplet_form import couplet_fault
from congling.data.smallworld.grammar import Grammar
from congling.data.smallworld.lexicon import LARGEST, categories, number_word
from congling.data.smallworld.questions import problems
from congling.data.smallworld.script import to_traditional
from congling.data.smallworld.wordings import Script, TaskKind
from congling.data.smallworld.world import World, world

_TRIES = 6  # changed words tried to make a story contradict itself
_CHANGED = ("person", "colour", "spot", "thing", "snack")
_SUM = re.compile(r"(\w+)([-+×÷]|除以|[加减減乘])(\w+)(=|等于|等於)(\w+)。?\n")
_SAID = {"+": "加", "-": "减", "×": "乘", "÷": "除以"}


@dataclass(frozen=True)
class Task:
    """Something to do."""

    kind: TaskKind
    fields: Mapping[str, str]
    """What a wording is put around."""
    answer: str
    content: str
    """What is asked, whatever the wording: a sum in digits and the same in words are one."""
    wrong: tuple[str, ...] = ()
    """Answers that the rules refuse, of the same sort as the right one; a story's are made when needed."""
    more: tuple[tuple[str, str], ...] = ()
    """Further questions about the same story, with their answers."""

    @property
    def held_out(self) -> bool:
        """Whether its content belongs to the tenth that is kept from ``seen`` rows, whatever their seed."""
        return crc32(f"{self.kind} {self.content}".encode()) % 10 == 0


def draw(kind: TaskKind, script: Script, random: Random) -> Task:
    """A task of this kind; takes nothing but ``random.random()``, the same in all versions of Python."""
    place = world(script)
    if kind == "questions":
        return _question(place, random)
    if kind == "couplets":
        return _couplet(place, random)
    return _sum(place, random) if kind == "arithmetic" else _story(place, random)


def number(text: str) -> int | None:
    """The whole number that a text is, in digits or in words, with or without ``=`` before it; else None."""
    found = value(text)
    return int(found.value) if found is not None and found.value.denominator == 1 else None


def wrong(task: Task, script: Script, random: Random) -> str:
    """An answer to a task that the rules refuse."""
    if task.kind == "story":
        return _contradicted(task.fields["opening"], task.answer, script, random)
    return task.wrong[int(random.random() * len(task.wrong))]


def _question(place: World, random: Random) -> Task:
    story, _ = place.grammars["story"].write(random.random)
    found = [
        problem for problem in problems(Document(story, "", {"kind": "story"}), place.script) if problem.wrong
    ]
    at = int(random.random() * len(found))
    asked = [one.prompt.removeprefix(story).strip().splitlines()[0][len("问：") :] for one in found]
    said = [(question, one.answer) for question, one in zip(asked, found, strict=True)]
    fields = {"story": story, "question": asked[at]}
    more = (*said[at + 1 :], *said[:at])
    return Task("questions", fields, found[at].answer, story, found[at].wrong, more)


def _couplet(place: World, random: Random) -> Task:
    text, _ = _grammar("couplets", place.script).write(random.random)
    upper, lower = text.strip().removesuffix("。").split("，")
    return Task("couplets", {"upper": upper}, f"{lower}。", upper, tuple(_faulty(upper, lower, random)))


def _faulty(upper: str, lower: str, random: Random) -> Iterator[str]:
    """Lower lines with one fault each: a word that answers itself, one too few, two that changed places."""
    at = int(random.random() * len(lower))
    other = (at + 1 + int(random.random() * (len(lower) - 1))) % len(lower)
    swapped = list(lower)
    swapped[at], swapped[other] = swapped[other], swapped[at]
    changed = (lower[:at] + upper[at] + lower[at + 1 :], lower[:at] + lower[at + 1 :], "".join(swapped))
    start = int(random.random() * len(changed))
    for text in changed[start:] + changed[:start]:
        if couplet_fault(upper, text) is not None:
            yield f"{text}。"


def _sum(place: World, random: Random) -> Task:
    text, _ = _grammar("arithmetic", place.script).write(random.random)
    found = _SUM.fullmatch(text)
    assert found is not None, text
    left, sign, right, equals, answer = found.groups()
    said = to_traditional(_SAID.get(sign, sign)) if place.script == "hant" else _SAID.get(sign, sign)
    fields = {"sum": f"{left}{sign}{right}", "said": f"{left}{said}{right}", "equals": equals}
    result, digits = number(answer), answer.isdigit()
    assert result is not None, text
    content = f"{number(left)} {_SAID.get(sign, sign).replace('減', '减')} {number(right)}"
    near = [str(other) if digits else f"{number_word(other)}。" for other in _near(result, random)]
    return Task("arithmetic", fields, answer if digits else f"{answer}。", content, tuple(near))


def _near(value: int, random: Random) -> list[int]:
    """Near misses: one or two off, ten off, digits turned round; three of them, none negative."""
    turned = int(str(value)[::-1])
    near = [value + 1, value - 1, value + 10, value - 10, value + 2, turned]
    near = [other for other in dict.fromkeys(near) if 0 <= other <= LARGEST and other != value]
    start = int(random.random() * len(near))
    return (near[start:] + near[:start])[:3]


def _story(place: World, random: Random) -> Task:
    story, _ = place.grammars["story"].write(random.random)
    end = story.index("。") + 1
    opening, rest = story[:end], story[end:]
    return Task("story", {"opening": opening}, rest, opening)


def _contradicted(opening: str, rest: str, script: Script, random: Random) -> str:
    """The rest of a story with one word changed, so that it says what cannot be after what it said before.

    Where the words tried change nothing that was told, it ends by beginning again at another place.
    """
    pattern, kinds = _changeable(script)
    spots = list(pattern.finditer(rest))
    told = Counter(found[0] for found in pattern.finditer(opening)) + Counter(found[0] for found in spots)
    again = [found for found in spots if told[found[0]] > 1]  # said once, a word can be any other
    for _ in range(_TRIES if again else 0):
        found = again[int(random.random() * len(again))]
        changed = rest[: found.start()] + _other(found[0], kinds, random) + rest[found.end() :]
        verdict = check(opening + changed)
        if verdict.grammar == 1 and verdict.score < 1:
            return changed
    places = tuple(entry[0] for entry in world(script).categories["place"].entries)
    place = max((name for name in places if name in opening), key=len)
    before = "".join(sentences(rest)[:-1])
    return before + opening.replace(place, _other(place, {place: places}, random))


def _other(word: str, kinds: Mapping[str, tuple[str, ...]], random: Random) -> str:
    """Another word of the same kind."""
    words = kinds[word]
    step = 1 + int(random.random() * (len(words) - 1))
    return words[(words.index(word) + step) % len(words)]


@cache
def _changeable(script: Script) -> tuple[re.Pattern[str], Mapping[str, tuple[str, ...]]]:
    """The words a story may be changed at, and what may stand in their place."""
    kinds: dict[str, tuple[str, ...]] = {}
    for name in _CHANGED:
        words = tuple(dict.fromkeys(entry[0] for entry in world(script).categories[name].entries))
        kinds |= {word: words for word in words if word not in kinds}
    return re.compile("|".join(sorted(map(re.escape, kinds), key=len, reverse=True))), kinds


@cache
def _grammar(kind: TaskKind, script: Script) -> Grammar:
    """Lines of couplets, or sums, each alone."""
    sources = {
        "couplets": ((couplets.THREE, couplets.FIVE, couplets.SEVEN), couplets.ALIASES),
        "arithmetic": ((arithmetic.DIGITS, arithmetic.WORDS), arithmetic.ALIASES),
    }
    source, aliases = sources[kind]
    return compile_grammar(source, categories(script), aliases, to_traditional if script == "hant" else str)
