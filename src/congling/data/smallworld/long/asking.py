"""Questions and copies that a long document holds, each with its answer, wrong ones and its distance."""

from collections.abc import Iterator
from typing import NamedTuple

from congling.data.smallworld.long.lines import CODES, WORDS, Line, around, write
from congling.data.smallworld.long.state import Fact, State
from congling.data.smallworld.long.writing import line_at

_WRONG = 3


class Asked(NamedTuple):
    """A place of a document where something told before has to be said."""

    start: int
    """Where the answer begins, in characters."""
    answer: str
    """The rest of the line, without its line break."""
    wrong: tuple[str, ...]
    """Answers of the same form: what the document says of others first, then what it might have said."""
    distance: int
    """Characters between the end of the first line that the answer needs and the question."""


def asked(text: str) -> Iterator[Asked]:
    """What a document in Simplified characters asks for, in the order of the text."""
    state = State()
    while state.position < len(text) and (found := line_at(text, state.position)):
        line, end = found
        fact = _asked_for(state, line)
        if fact is not None:
            yield _question(state, fact, line)
        state.tell(line, end - state.position)


def _asked_for(state: State, line: Line) -> Fact | None:
    if line.kind == "recite":
        return state.notes.get(line.words[0])
    return state.facts[line.kind[4:]].get(line.words[:-1]) if line.kind.startswith("ask-") else None


def _question(state: State, fact: Fact, line: Line) -> Asked:
    if fact.topic == "note":
        before, _, behind = write(line._replace(words=(line.words[0], "\0"))).partition("\0")
    else:
        before, behind = around(fact.topic, fact.about)
    behind = behind.rstrip("\n")
    wrong = [value for value in dict.fromkeys(_others(state, fact)) if value != fact.answer][:_WRONG]
    return Asked(
        state.position + len(before),
        fact.answer + behind,
        tuple(value + behind for value in wrong),
        state.position - fact.end,
    )


def _others(state: State, fact: Fact) -> Iterator[str]:
    """Values that might stand in the place of a fact's, those told of others before those never told."""
    if fact.topic == "get":
        count = int(fact.answer)
        yield from map(str, (count + 1, count - 1, count + 2, count + 3))
    elif fact.topic == "note":
        yield from (note.answer for note in state.notes.values())
        yield from (fact.answer[at:] + fact.answer[:at] for at in range(1, len(fact.answer)))
    elif fact.topic == "say":
        rest = [word for word in WORDS if word not in fact.values]
        yield "”“".join(fact.values[::-1])
        yield "”“".join(fact.values[:-1] or rest[:1])
        yield "”“".join([*fact.values, rest[0]])
        yield "”“".join([*fact.values[:-1], rest[1]])
    else:
        alike = list(state.facts[fact.topic].values())
        at = next(k for k, other in enumerate(alike) if other is fact)
        yield from (other.answer for other in alike[at + 1 :] + alike[:at])
        every = WORDS if fact.topic == "word" else tuple(map(str, CODES))
        at = every.index(fact.answer)
        yield from every[at + 1 :] + every[:at]
