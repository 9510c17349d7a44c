"""What a text says: sentences turned into facts, and contradictions between them.

The meaning of a pattern, written behind `` | `` in it, is a list of statements separated by `` ; ``::

    colour thing = colour           tell a fact; a fact told otherwise before is a contradiction
    holder thing : who -> friend    a change; the old value must be the present one
    count who snack -= few          a change of a number
    colour thing ? colour           an answer; it must be what the text has told
"""

from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from congling.data.smallworld.grammar import Pattern, compute
from congling.data.smallworld.reading import Match

Key = tuple[str | int, ...]


class Statement(NamedTuple):
    """One statement of a meaning; names are variables of the pattern, or words such as ``nobody``."""

    key: tuple[str, ...]
    operator: str
    values: tuple[str, ...]


@cache
def statements(meaning: str) -> tuple[Statement, ...]:
    """Parse the meaning of a pattern."""
    result = []
    for part in meaning.split(" ; ") if meaning else ():
        words = part.split()
        at = next(k for k, word in enumerate(words) if word in ("=", ":", "+=", "-=", "?"))
        values = tuple(word for word in words[at + 1 :] if word != "->")
        result.append(Statement(tuple(words[:at]), words[at], values))
    return tuple(result)


@dataclass
class Facts:
    """The facts of one text, told pattern by pattern."""

    known: dict[Key, str | int] = field(default_factory=dict)
    contradictions: list[str] = field(default_factory=list)
    wrong_sums: list[str] = field(default_factory=list)
    checks: int = 0
    """Statements and sums that could have gone wrong."""
    sums: int = 0
    _line: dict[str, str | int] = field(default_factory=dict)
    _subject: dict[str, str] = field(default_factory=dict)

    def tell(self, pattern: Pattern, found: Match) -> None:
        """Take in one pattern found in the text."""
        if str(pattern.tokens[0]).startswith("\n"):
            self._line.clear()
        values = self._values(found)
        self._line |= values
        self._sums(found)
        for statement in statements(pattern.meaning):
            self._state(statement)
        if str(pattern.tokens[-1]).endswith("\n"):
            self._line.clear()

    def value(self, key: Key) -> str | int | None:
        """A fact; ``("sum", thing)`` adds up what everybody has of it."""
        if key[0] == "sum":
            counts = [v for k, v in self.known.items() if k[0] == "count" and k[2:] == key[1:]]
            return sum(count for count in counts if isinstance(count, int))
        return self.known.get(key)

    def _values(self, found: Match) -> dict[str, str | int]:
        """Variables of a pattern by what its slots show; attributes that do not go together contradict."""
        entries: dict[str, tuple[Any, ...]] = {}
        for slot, _, entry in found.forms:
            if not slot.category.numeric and not slot.category.identifies(slot.attribute):
                continue
            if entries.setdefault(slot.variable, entry)[0] != entry[0]:
                self._contradict(f"{entries[slot.variable][0]} or {entry[0]}?")
        for slot, form, _ in found.forms:
            entry = entries.get(slot.variable)
            if entry is None and slot.category.attributes[slot.attribute] == "he":
                if form not in self._subject:
                    self._contradict(f"who is {form}?")
                entries[slot.variable] = (self._subject.get(form, form), form)
            elif entry is not None and entry[slot.attribute] != form:
                self._contradict(f"{entry[0]} does not go with {form}")
        self._remember_subject(found)
        # a number carries its value last; anything else is known by its first form
        return {name: e[-1] if isinstance(e[-1], int) else e[0] for name, e in entries.items()}

    def _remember_subject(self, found: Match) -> None:
        """The person a pattern names first is whom a pronoun means from then on."""
        for slot, form, entry in found.forms:
            if slot.category.attributes == ("name", "he") and form == entry[0]:
                self._subject[entry[1]] = form
                return

    def _sums(self, found: Match) -> None:
        for slot, _, entry in found.forms:
            for operator in "+-*":
                left, sign, right = slot.variable.partition(operator)
                a, b = self._line.get(left), self._line.get(right)
                if sign and isinstance(a, int) and isinstance(b, int):
                    self.sums += 1
                    if compute(a, operator, b) != entry[3]:
                        self.wrong_sums.append(f"{a} {operator} {b} is not {entry[3]}")

    def _state(self, statement: Statement) -> None:
        key: Key = (statement.key[0], *(self._line.get(name, name) for name in statement.key[1:]))
        values = [self._line.get(name, name) for name in statement.values]
        old = self.value(key)
        self.checks += 1
        if statement.operator in ("+=", "-="):
            change = values[0] if isinstance(values[0], int) else 0
            before = old if isinstance(old, int) else 0
            self.known[key] = compute(before, statement.operator[0], change)
            if statement.operator == "-=" and change > before:
                self._contradict(f"{_show(key)}: {change} taken from {before}")
            return
        if statement.operator == "=" and old not in (None, values[0]):
            self._contradict(f"{_show(key)}: {old} before, {values[0]} now")
        if statement.operator in (":", "?") and old != values[0]:
            self._contradict(f"{_show(key)}: {values[0]}, but it was {'never told' if old is None else old}")
        if statement.operator != "?":
            self.known[key] = values[-1]

    def _contradict(self, reason: str) -> None:
        self.contradictions.append(reason)


def _show(key: Key) -> str:
    return " ".join(map(str, key))
