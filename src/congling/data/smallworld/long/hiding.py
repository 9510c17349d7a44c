"""What a needle hides, kind by kind: its lines, the question, and answers that it might have."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from congling.data.smallworld.long.lines import (
    CODES,
    PEOPLE,
    SNACKS,
    THINGS,
    VARIABLES,
    WORDS,
    Line,
)
from congling.data.smallworld.long.state import LINKS, MOST_GOT, MOST_WORDS

NeedleKind = Literal["single", "multi-key", "multi-value", "variables", "counting"]
T = TypeVar("T")
Draw = Callable[[], float]
"""Uniform numbers in [0, 1)."""
_NUMBERS = tuple(map(str, CODES))
_COUNTS = tuple(map(str, range(1, 100)))
_LISTS = 200  # wrong lists that are made


@dataclass(frozen=True)
class Hidden:
    """Something to be found: its lines in groups that stand together, what is asked, what may be answered."""

    lines: tuple[tuple[Line, ...], ...]
    topic: str
    about: tuple[str, ...]
    value: str
    others: Sequence[str]
    """Answers of the same form; the right one may be among them."""
    first: Line
    """The first line that the answer needs, in the first group."""
    beside: Callable[[Draw], Line] | None = None
    """Draws lines alike, to stand in the filler."""
    likeliest: float = 0.0
    """How often the answer is the one that is most often right, where that is not the same for all."""


def one(options: Sequence[T], draw: Draw) -> T:
    """One of them, each as likely."""
    return options[int(draw() * len(options))]


def some(options: Sequence[T], count: int, draw: Draw) -> list[T]:
    """Different ones, in random order."""
    left = list(options)
    return [left.pop(int(draw() * len(left))) for _ in range(min(count, len(left)))]


def _grouped(mine: Sequence[Line], others: Sequence[Line], draw: Draw) -> tuple[tuple[Line, ...], ...]:
    """Each line beside one like it, before or after it."""
    return tuple(
        (line, other) if draw() < 0.5 else (other, line) for line, other in zip(mine, others, strict=True)
    )


def _fact(draw: Draw) -> tuple[str, tuple[str, ...], str, Sequence[str]]:
    """Topic, key, value and possible values of a fact of one line."""
    topic = one(("code", "word"), draw)
    values = _NUMBERS if topic == "code" else WORDS
    return topic, (one(PEOPLE, draw), one(THINGS, draw)), one(values, draw), values


def _single(draw: Draw) -> Hidden:
    topic, about, value, values = _fact(draw)
    line = Line(topic, (*about, value))
    return Hidden(((line,),), topic, about, value, values, line)


def _multi_key(draw: Draw) -> Hidden:
    topic, about, value, values = _fact(draw)
    used = {about}
    left = [other for other in values if other != value]

    def alike(draw: Draw) -> Line:
        """Of the same person, or the same thing, as long as there are any."""
        for _ in range(len(PEOPLE) * 10):
            person, thing = one(PEOPLE, draw), one(THINGS, draw)
            key = (about[0], thing) if draw() < 0.5 else (person, about[1])
            if key not in used:
                break
        else:
            key = next(key for who in PEOPLE for thing in THINGS if (key := (who, thing)) not in used)
        used.add(key)
        return Line(topic, (*key, one(left, draw)))

    line = Line(topic, (*about, value))
    return Hidden(_grouped([line], [alike(draw)], draw), topic, about, value, values, line, alike)


def _multi_value(draw: Draw) -> Hidden:
    count = 2 + int(draw() * (MOST_WORDS - 1))
    (who, other), words = some(PEOPLE, 2, draw), some(WORDS, 2 * count, draw)
    kinds = ["say", *["more"] * (count - 1)]
    mine = [Line(kind, (who, word)) for kind, word in zip(kinds, words[:count], strict=True)]
    alike = [Line(kind, (other, word)) for kind, word in zip(kinds, words[count:], strict=True)]
    lists = [some([*words, *some(WORDS, count, draw)], count, draw) for _ in range(_LISTS)]
    near = [
        [*words[:at], word, *words[at + 1 : count]] for at in range(count) for word in some(WORDS, 8, draw)
    ]
    others = ["”“".join(row) for row in near + lists if len(set(row)) == count]
    value = "”“".join(words[:count])
    return Hidden(_grouped(mine, alike, draw), "say", (who,), value, tuple(dict.fromkeys(others)), mine[0])


def _variables(draw: Draw) -> Hidden:
    links = 2 + int(draw() * (LINKS - 1))
    names, (value, other) = some(VARIABLES, 2 * links, draw), some(_NUMBERS, 2, draw)
    chains = [
        [Line("set", (row[0], number)), *(Line("same", (row[k], row[k - 1])) for k in range(1, links))]
        for row, number in ((names[:links], value), (names[links:], other))
    ]
    mine, alike = chains
    return Hidden(_grouped(mine, alike, draw), "set", (names[links - 1],), value, _NUMBERS, mine[0])


def _counting(draw: Draw) -> Hidden:
    count = 2 + int(draw() * (MOST_GOT - 1))
    (who, other), snack = some(PEOPLE, 2, draw), one(tuple(SNACKS), draw)
    kinds = ["get", *["again"] * (count - 1)]
    mine = [Line(kind, (who, snack)) for kind in kinds]
    some_more = count - 1 - int(draw() * (count - 1))  # what another gets, at least one and less
    alike = [Line(kind, (other, snack)) for kind in kinds[:some_more]]
    groups = _grouped(mine[:some_more], alike, draw)
    groups += tuple((line,) for line in mine[some_more:])
    return Hidden(groups, "get", (who, snack), str(count), _COUNTS, mine[0], likeliest=1 / (MOST_GOT - 1))


HIDING: Mapping[NeedleKind, Callable[[Draw], Hidden]] = {
    "single": _single,
    "multi-key": _multi_key,
    "multi-value": _multi_value,
    "variables": _variables,
    "counting": _counting,
}
