"""What a long document has told so far, and which line may come next, how likely.

What is asked for is drawn among all that was told and not yet asked: first how far back, every doubling of
the distance that holds any as likely (up to 16 characters, 32, 64 …), then what, among all that lies there.
"""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from congling.data.smallworld.lexicon import LARGEST, number_word
from congling.data.smallworld.long.choosing import Choices
from congling.data.smallworld.long.lines import CODES, PEOPLE, SNACKS, THINGS, VARIABLES, WORDS, Line

WEIGHTS = {
    "code": 9, "word": 7, "say": 3, "more": 6, "get": 3, "again": 9, "set": 4, "same": 4, "ask": 28,
    "note": 7, "recite": 7, "chant": 3, "scene": 4, "story": 5,
}  # fmt: skip
"""How often each kind of line comes, among those that can come."""
MOST_WORDS, MOST_GOT, LINKS = 4, 9, 3
"""Most things said by one person, things got of one kind, and statements up to a variable's number."""
_NEAR = 16  # characters; what is nearer is one distance
_CODES, _SNACKS = tuple(map(str, CODES)), tuple(SNACKS)
_SIZES = {
    "code": len(PEOPLE) * len(THINGS),
    "word": len(PEOPLE) * len(THINGS),
    "say": len(PEOPLE),
    "get": len(PEOPLE) * len(SNACKS),
    "set": len(VARIABLES),
}
"""Keys that a topic has."""

About = tuple[str, ...]
"""Whom or what a fact is about."""


@dataclass(slots=True)
class Fact:
    """Something told: what it is about, what an answer must say, and where it began to be told."""

    topic: str
    about: About
    values: list[str]
    end: int
    """Where the first line ends that the answer needs."""
    links: int = 1
    """Statements from here to the number, of a variable."""

    @property
    def answer(self) -> str:
        """What the gap of an answer holds."""
        return str(len(self.values)) if self.topic == "get" else "”“".join(self.values)


def _topics() -> dict[str, dict[About, Fact]]:
    return {topic: {} for topic in _SIZES}


@dataclass(slots=True)
class State:
    """The facts of a document up to ``position``, in characters."""

    position: int = 0
    facts: dict[str, dict[About, Fact]] = field(default_factory=_topics)
    """By topic, and whom or what they are about."""
    pending: list[Fact] = field(default_factory=list)
    """Those that may be asked for and were not: of what is told one by one, it takes two."""
    growing: dict[str, dict[About, Fact]] = field(default_factory=lambda: {"say": {}, "get": {}, "set": {}})
    """Those that more may be told of, and variables that another may be the same as."""
    notes: dict[str, Fact] = field(default_factory=dict)
    """Lines to be copied, by their ordinal."""
    unread: list[Fact] = field(default_factory=list)
    """Those of them that were not recited."""

    def next(self, choose: Choices) -> Line:
        """Choose the next line.

        Raises:
            ImpossibleError: the line that ``choose`` has been given cannot come next.
        """
        kind = choose.kind(self.weights())
        return _RULES[kind](self, choose)

    def weights(self) -> dict[str, int]:
        """The kinds that may come next."""
        sets, say, get = self.growing["set"], self.growing["say"], self.growing["get"]
        fresh = {topic: len(self.facts[topic]) < size for topic, size in _SIZES.items()}
        possible: dict[str, Collection[Fact] | bool | dict[About, Fact]] = {
            **fresh,
            **{"same": fresh["set"] and sets, "more": say, "again": get, "ask": self.pending},
            **{"note": len(self.notes) < LARGEST, "recite": self.unread},
        }
        return {kind: weight for kind, weight in WEIGHTS.items() if possible.get(kind, True)}

    def evenly(self, facts: list[Fact]) -> list[float]:
        """Weights by which each doubling of the distance that has any of these is as likely as another."""
        doublings = [(self.position - fact.end) // _NEAR for fact in facts]
        doublings = [distance.bit_length() for distance in doublings]
        together = Counter(doublings)
        return [1.0 / together[doubling] for doubling in doublings]

    def tell(self, line: Line, length: int) -> None:
        """Take in a line of ``length`` characters; one that does not follow from the rest changes nothing."""
        kind, words = line
        self.position += length
        if kind in _SIZES:
            self._add(Fact(kind, words if kind == "get" else words[:-1], [words[-1]], self.position))
        elif kind == "same":
            target = self.facts["set"].get(words[1:])
            if target is not None:
                self._add(Fact("set", words[:1], target.values, target.end, target.links + 1))
        elif kind in ("more", "again"):
            self._grow("say" if kind == "more" else "get", words[:1] if kind == "more" else words, words[-1])
        elif kind.startswith("ask-"):
            self._asked(self.facts[kind[4:]].get(words[:-1]))
        elif kind == "note":
            self.notes[words[0]] = Fact(kind, words[:1], [words[1]], self.position)
            self.unread.append(self.notes[words[0]])
        elif kind == "recite":
            self.unread = [note for note in self.unread if note.about != words[:1]]

    def _add(self, fact: Fact) -> None:
        self.facts[fact.topic][fact.about] = fact
        if fact.topic not in ("say", "get"):
            self.pending.append(fact)
        if fact.topic in self.growing and fact.links < LINKS:
            self.growing[fact.topic][fact.about] = fact

    def _grow(self, topic: str, about: About, value: str) -> None:
        fact = self.facts[topic].get(about)
        if fact is not None:
            fact.values.append(value)
            if len(fact.values) == 2:
                self.pending.append(fact)
            if len(fact.values) >= (MOST_WORDS if topic == "say" else MOST_GOT):
                self.growing[topic].pop(about, None)

    def _asked(self, fact: Fact | None) -> None:
        if fact is not None:
            self.pending = [other for other in self.pending if other is not fact]
            if fact.topic != "set":
                self.growing.get(fact.topic, {}).pop(fact.about, None)


def _keyed(topic: str, values: tuple[str, ...], *parts: tuple[str, ...]) -> Callable[[State, Choices], Line]:
    """Rule of a fact about something new: what it is about, then its value."""

    def rule(state: State, choose: Choices) -> Line:
        about = choose.unused(state.facts[topic], *parts)
        return Line(topic, (*about, choose.one(values)) if values else about)

    return rule


def _more(state: State, choose: Choices) -> Line:
    person = choose.one([who for (who,) in state.growing["say"]])
    said = state.facts["say"][(person,)].values
    return Line("more", (person, choose.one([word for word in WORDS if word not in said])))


def _again(state: State, choose: Choices) -> Line:
    rows = list(state.growing["get"])
    return Line("again", rows[choose.near(rows, [1.0] * len(rows))])


def _same(state: State, choose: Choices) -> Line:
    (name,) = choose.unused(state.facts["set"], VARIABLES)
    return Line("same", (name, choose.one([other for (other,) in state.growing["set"]])))


def _ask(state: State, choose: Choices) -> Line:
    rows = [(fact.topic, *fact.about) for fact in state.pending]
    fact = state.pending[choose.near(rows, state.evenly(state.pending))]
    return Line(f"ask-{fact.topic}", (*fact.about, fact.answer))


def _note(state: State, choose: Choices) -> Line:
    return Line("note", (number_word(len(state.notes) + 1), choose.copied()))


def _recite(state: State, choose: Choices) -> Line:
    rows = [note.about for note in state.unread]
    note = state.unread[choose.near(rows, state.evenly(state.unread))]
    return Line("recite", (*note.about, note.answer))


def _chant(state: State, choose: Choices) -> Line:
    text = choose.copied()
    return Line("chant", (text, text))


_RULES: dict[str, Callable[[State, Choices], Line]] = {
    "code": _keyed("code", _CODES, PEOPLE, THINGS),
    "word": _keyed("word", WORDS, PEOPLE, THINGS),
    "say": _keyed("say", WORDS, PEOPLE),
    "get": _keyed("get", (), PEOPLE, _SNACKS),
    "set": _keyed("set", _CODES, VARIABLES),
    "more": _more,
    "again": _again,
    "same": _same,
    "ask": _ask,
    "note": _note,
    "recite": _recite,
    "chant": _chant,
    "scene": lambda state, choose: Line("scene", (choose.filler("scene"),)),
    "story": lambda state, choose: Line("story", (choose.filler("story"),)),
}
