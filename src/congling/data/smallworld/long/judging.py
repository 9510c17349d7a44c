"""Any text by the rules of long documents: its lines one by one, and what each contradicts.

A line that contradicts what was told changes nothing that is known; so one fault is counted once.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from congling.data.smallworld.lexicon import number_word
from congling.data.smallworld.long.lines import (
    CHARACTERS,
    CODES,
    LENGTHS,
    WORDS,
    Line,
    begins,
    read,
)
from congling.data.smallworld.long.state import State

_CUT = 64  # characters at the end of a text that may be the beginning of a line, left out then
_LONGEST = 400  # characters of a line with its question


class Piece(NamedTuple):
    """A line of a text, as it stands there."""

    text: str
    line: Line | None
    """None where it is to be read sentence by sentence."""
    fault: str | None
    """What it contradicts."""


def is_long(text: str) -> bool:
    """Whether a text, in Simplified characters, has a line that only long documents have."""
    return any(known(text, start) is not None for start in _starts(text))


def known(text: str, position: int) -> tuple[Line, int] | None:
    """The line at ``position``, if it is one that a long document may have, right or wrong; and its end."""
    found = read(text, position)
    if found is None and len(text) - position <= _LONGEST and not text.endswith("\n"):
        last = read(text[position:] + "\n")  # without its line break
        found = last and (last[0], position + last[1])
    return found if found is not None and _formed(found[0]) else None


def pieces(text: str) -> Iterator[Piece]:
    """The lines of a text in Simplified characters; a last one that was cut short is left out."""
    state = State()
    while state.position < len(text):
        start = state.position
        found = known(text, start)
        if found is None:
            if _cut_short(text, start):
                return
            state.position = text.find("\n", start) + 1 or len(text)
            yield Piece(text[start : state.position], None, None)
            continue
        line, end = found[0], min(found[1], len(text))
        wrong = fault(state, line)
        yield Piece(text[start:end], line, wrong)
        if wrong is None:
            state.tell(line, end - start)
        state.position = end


def _cut_short(text: str, start: int) -> bool:
    """Whether a text ends within a line that begins here as one of these may, before its full stop."""
    rest = text[start : start + 2 * _CUT]
    if start + len(rest) < len(text) or rest.endswith("。") or not begins(text, start):
        return False
    line, broken, answer = rest.partition("\n")
    return not broken or (line.startswith("问：") and re.fullmatch("答?|答：[^\n]*", answer) is not None)


def distinct(lines: Counter[Line]) -> tuple[int, int]:
    """Lines that were not told before, and all; but those that say the same of one thing after another."""
    told = {line: count for line, count in lines.items() if line.kind != "again"}
    return len(told), sum(told.values())


def fault(state: State, line: Line) -> str | None:
    """What is wrong with a line after all that was told; None where nothing is."""
    kind, words = line
    if kind.startswith("ask-"):
        return _wrong_answer(state, kind[4:], words[:-1], words[-1])
    if kind in ("note", "recite", "chant"):
        return _wrong_copy(state, kind, *words)
    if kind in ("code", "word", "set", "same"):
        return _told_otherwise(state, kind, words)
    return _wrong_count(state, kind, words)


def _told_otherwise(state: State, kind: str, words: tuple[str, ...]) -> str | None:
    target = state.facts["set"].get(words[1:])
    if kind == "same" and target is None:
        return f"{words[1]} was never told"
    value = target.answer if kind == "same" and target else words[-1]
    old = state.facts["set" if kind == "same" else kind].get(words[:-1])
    return None if old is None or old.answer == value else f"{_said(words)}, but {old.answer} before"


def _wrong_answer(state: State, topic: str, about: tuple[str, ...], answer: str) -> str | None:
    fact = state.facts[topic].get(about)
    if fact is not None and fact.answer == answer:
        return None
    return f"{_said(about)}: {answer}, but it was {'never told' if fact is None else fact.answer}"


def _wrong_copy(state: State, kind: str, first: str, second: str) -> str | None:
    if kind == "chant":
        return None if first == second else f"{second} is not {first}"
    note = state.notes.get(first)
    if kind == "recite":
        told = note.answer if note else "none"
        return None if told == second else f"line {first} is {told}"
    expected = number_word(len(state.notes) + 1)
    return None if first == expected else f"line {first} where {expected} comes"


def _wrong_count(state: State, kind: str, words: tuple[str, ...]) -> str | None:
    """Something said or got, one by one: ``say`` and ``get`` the first time, ``more`` and ``again`` later."""
    topic, about = ("get", words) if kind in ("get", "again") else ("say", words[:1])
    fact = state.facts[topic].get(about)
    if (fact is None) != (kind == topic):
        return f"{_said(words)}: {'nothing' if fact is None else fact.answer} before"
    return f"{_said(words)} before" if kind == "more" and fact and words[1] in fact.values else None


def _formed(line: Line) -> bool:
    """Whether a line says what one may say: a copy and an answer may be wrong in any way."""
    kind, words = line
    if kind in ("code", "set"):
        return words[-1].isdigit() and int(words[-1]) in CODES
    if kind in ("word", "say", "more"):
        return words[-1] in _WORDS
    if kind in ("note", "chant"):
        copied = words[1 if kind == "note" else 0]
        return len(copied) in LENGTHS and _CHARACTERS.issuperset(copied)
    return True


_WORDS, _CHARACTERS = frozenset(WORDS), frozenset(CHARACTERS)


def _starts(text: str) -> Iterator[int]:
    """Where lines begin."""
    start = 0
    while start < len(text):
        yield start
        start = text.find("\n", start) + 1 or len(text)


def _said(words: tuple[str, ...]) -> str:
    return " ".join(words)
