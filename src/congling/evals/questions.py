"""Questions with options, from files: lettered ones (CMMLU, Gaokao), and two endings of a premise (COPA).

=========  ==================================================================================
lettered   ``question``, ``A``, ``B``, … and ``answer``, a letter; ``subject`` or ``category``
endings    ``premise``, ``choice1``, ``choice2``, ``question`` (cause or effect), ``label``
=========  ==================================================================================

A row that is neither, lacks an option or whose answer is none of them is counted, named and left out.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from congling.core.errors import UserError
from congling.data.config import DataConfig
from congling.data.problems import FileNote, ReadingLog
from congling.data.sources import rows
from congling.data.sources.reading import read
from congling.evals.letters import LETTERS, first_letter

_JOINED = {"cause": "，因为", "effect": "，所以"}
_LONGEST = 20_000  # characters of a question with its options


@dataclass(frozen=True)
class Question:
    """A question, its options and which of them is right."""

    text: str
    options: tuple[str, ...]
    right: int
    """Number of the right option, from 0."""
    id: str
    """File and line or row."""
    group: str = ""
    """Its subject, where the row names one."""
    joined: str | None = None
    """What joins a premise and its ending; None for a question with answers."""


def questions(files: Sequence[str], findings: ReadingLog) -> list[Question]:
    """All questions of some files.

    Raises:
        UserError: no files are named, one cannot be read, or none holds a question.
    """
    if not files:
        raise UserError(
            "multiple choice needs a file of questions",
            hint="name it with --data: rows with question, A, B, … and answer",
        )
    found = list(read(tuple(files), DataConfig(sources=tuple(files)), findings, take))
    kept = [question for question in found if isinstance(question, Question)]
    if not kept:
        why = ", ".join(f"{count} × {kind}" for kind, count in findings.counts.most_common(3))
        hint = f"found: {why}" if why else "rows need question, A, B, … and answer"
        raise UserError("there is no question with options in this data", value=" ".join(files), hint=hint)
    return kept


def take(
    records: Iterable[rows.Record], note: FileNote, config: DataConfig, findings: ReadingLog
) -> Iterator[Question]:
    """Turn the records of one file into questions."""
    note.choice, note.why = "questions with options", "as asked for"
    for record in records:
        name = f"{note.file}:{record.place}"
        try:
            yield question_of(record.value, name)
        except ValueError as error:
            findings.problem("no question", note.file, record.place, str(error))


def question_of(record: Any, name: str) -> Question:
    """The question of one record.

    Raises:
        ValueError: it is none, with the reason.
    """
    if not isinstance(record, Mapping):
        raise ValueError("the record is no object")
    found = _endings(record, name) if "premise" in record else _lettered(record, name)
    if sum(map(len, found.options)) + len(found.text) > _LONGEST:
        raise ValueError(f"longer than {_LONGEST:,} characters")
    if len(set(found.options)) < len(found.options):
        raise ValueError("two options are equal")
    return found


def _lettered(record: Mapping[str, Any], name: str) -> Question:
    options = []
    for letter in LETTERS:
        if letter not in record:
            break
        options.append(_text(record, letter))
    answer = record.get("answer")
    if len(options) < 2:
        raise ValueError("fewer than two options A, B, …")
    place = _right(answer, options) if isinstance(answer, str) else None
    if place is None:
        raise ValueError(f"the answer is none of its options: {answer!r:.40}")
    group = next((str(record[key]) for key in ("subject", "category") if record.get(key)), "")
    return Question(_text(record, "question"), tuple(options), place, name, group)


def _right(answer: str, options: Sequence[str]) -> int | None:
    """Number of the option that a row calls right: by its letter (B, Ｂ, (b), B. 上海), or by its text."""
    answer = answer.strip()
    if answer in options:
        return options.index(answer)
    short = len(answer) <= 4 or answer[1:2] in tuple(".、．:：")
    return first_letter(answer, len(options)) if short else None


def _endings(record: Mapping[str, Any], name: str) -> Question:
    label, way = record.get("label"), record.get("question")
    if not isinstance(way, str) or way not in _JOINED:
        raise ValueError(f"question is neither cause nor effect: {way!r:.40}")
    if not isinstance(label, int) or isinstance(label, bool) or label not in (0, 1):
        raise ValueError(f"the label is neither 0 nor 1: {label!r:.40}")
    options = tuple(_text(record, key) for key in ("choice1", "choice2"))
    premise = _text(record, "premise").rstrip("。.！!")
    return Question(premise, options, int(label), name, str(way), _JOINED[way])


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{key} is missing or empty")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"{key} holds half a character")
    return value.strip()
