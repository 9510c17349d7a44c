"""From a record to a preference, a rated answer or a question with a checkable answer.

=========  =========================================================================================
pair       ``chosen`` and ``rejected``: texts, turns, or whole conversations with a common beginning
rated      a conversation and whether its last answer is good: ``label``, ``kto_tag``, true or false
question   a conversation without its last answer; ``answer``, ``solution`` … and all other fields are kept
=========  =========================================================================================

The question before them stands as in any instruction data (``chat_rows``). A record that is not whole is
named and counted, never guessed at.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from congling.data.config import DataConfig
from congling.data.findings import FileNote, Findings
from congling.data.sources import rows
from congling.data.sources.chat_rows import ROLES, Unfit, messages_of
from congling.data.sources.layouts import ANSWER, ASK, TALK, kind_of

Messages = tuple[Mapping[str, str], ...]
_LABELS = ("label", "kto_tag", "desirable", "good")
_STAND_IN = "。"  # an answer that is put in to read the turns before it, and taken off again


@dataclass(frozen=True, slots=True)
class PairRow:
    """A better and a worse answer to the same conversation."""

    messages: Messages
    chosen: str
    rejected: str
    id: str
    """File and line or row."""


@dataclass(frozen=True, slots=True)
class RatedRow:
    """An answer that is good or bad."""

    messages: Messages
    answer: str
    good: bool
    id: str


@dataclass(frozen=True, slots=True)
class QuestionRow:
    """A conversation to be answered, and what the answer can be checked with."""

    messages: Messages
    answer: str | None
    id: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    """The whole record."""


Row = TypeVar("Row")


def pair_of(record: Any, name: str) -> PairRow:
    """The pair in one record.

    Raises:
        Unfit: there is none, or its sides are equal.
    """
    record = _object(record)
    for side in ("chosen", "rejected"):
        if side not in record:
            raise Unfit("no preference", f"the record has no {side!r}")
    better, worse = record["chosen"], record["rejected"]
    if isinstance(better, list) and isinstance(worse, list):
        messages, chosen, rejected = _conversations(record, better, worse)
    else:
        messages = _asked(record)
        chosen, rejected = _said(better, "chosen"), _said(worse, "rejected")
    if chosen.strip() == rejected.strip():
        raise Unfit("equal sides", "the chosen and the rejected answer are the same")
    return PairRow(messages, chosen, rejected, name)


def rated_of(record: Any, name: str) -> RatedRow:
    """The rated answer in one record.

    Raises:
        Unfit: there is none, or its label is neither true nor false.
    """
    record = _object(record)
    label = next((key for key in _LABELS if key in record), None)
    if label is None:
        raise Unfit("no label", f"the record has none of {', '.join(_LABELS)}")
    good = record[label]
    if not isinstance(good, bool) and good not in (0, 1):
        shown = repr(good)[:40] if isinstance(good, str | float | int) else kind_of(good)
        raise Unfit("no label", f"{label!r} is {shown}, not true or false")
    rest = {key: value for key, value in record.items() if key != label}
    messages = messages_of(_with_messages(rest))
    return RatedRow(tuple(messages[:-1]), messages[-1]["content"], bool(good), name)


def question_of(record: Any, name: str) -> QuestionRow:
    """The question in one record; its answer may be missing.

    Raises:
        Unfit: there is no question.
    """
    record = _object(record)
    given = next(
        (record[key] for key in ANSWER if isinstance(record.get(key), (str, int, float, list))), None
    )
    if isinstance(given, list):
        given = given[0] if given and isinstance(given[0], str) else None
    answer = None if given is None or isinstance(given, bool) else str(given)
    turns = next((record[key] for key in TALK if isinstance(record.get(key), list)), None)
    if turns and _is_answer(turns[-1]):  # a whole conversation: its last answer is the right one
        messages = messages_of(record)
        return QuestionRow(tuple(messages[:-1]), answer or messages[-1]["content"], name, dict(record))
    return QuestionRow(_asked(record), answer, name, dict(record))


def taker(make: Callable[[Any, str], Row]) -> rows.Take:
    """What turns the records of a file into rows of one sort."""

    def take(
        records: Iterable[rows.Record], note: FileNote, config: DataConfig, findings: Findings
    ) -> Iterator[Row]:
        note.choice, note.why = make.__name__.removesuffix("_of") + " rows", "as the method needs"
        for record in records:
            try:
                yield make(record.value, f"{note.file}:{record.place}")
            except Unfit as unfit:
                findings.problem(unfit.kind, note.file, record.place, str(unfit))

    return take


def _object(record: Any) -> Mapping[str, Any]:
    if not isinstance(record, Mapping):
        raise Unfit("no conversation", f"the record is {kind_of(record)}, not an object")
    return record


def _asked(record: Mapping[str, Any]) -> Messages:
    """The conversation before the answer that is missing."""
    record = _with_messages(record)
    talk = next((key for key in TALK if isinstance(record.get(key), list)), None)
    if talk is not None:
        whole = {**record, talk: [*record[talk], {"role": "assistant", "content": _STAND_IN}]}
    elif any(key in record for key in ASK):
        rest = {key: value for key, value in record.items() if key not in ANSWER or key in ASK}
        whole = rest | {"output": _STAND_IN}
    else:
        raise Unfit("no question", f"the record has none of {', '.join((*TALK, *ASK))}")
    return tuple(messages_of(whole)[:-1])


def _with_messages(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """TRL's conversational form: a prompt, and a completion, that are lists of turns."""
    prompt, completion = record.get("prompt"), record.get("completion")
    if not isinstance(prompt, list):
        return record
    rest = {key: value for key, value in record.items() if key not in ("prompt", "completion")}
    return rest | {"messages": [*prompt, *(completion if isinstance(completion, list) else [])]}


def _conversations(
    record: Mapping[str, Any], better: list[Any], worse: list[Any]
) -> tuple[Messages, str, str]:
    """Two lists of turns: only the answers (beside a prompt), or conversations with a common beginning."""
    if len(better) == len(worse) == 1 and _is_answer(better[0]) and _is_answer(worse[0]):
        return _asked(record), _said(better[0], "chosen"), _said(worse[0], "rejected")
    if not better or not worse or better[:-1] != worse[:-1]:
        raise Unfit("no preference", "the two conversations differ before their last answer")
    if not _is_answer(better[-1]) or not _is_answer(worse[-1]):
        raise Unfit("no answer", "a conversation does not end with the assistant's turn")
    messages = messages_of({"messages": better})
    return tuple(messages[:-1]), messages[-1]["content"], _said(worse[-1], "rejected")


def _is_answer(turn: Any) -> bool:
    role = turn.get("role", turn.get("from")) if isinstance(turn, Mapping) else None
    return isinstance(role, str) and ROLES.get(role.lower()) == "assistant"


def _said(value: Any, side: str) -> str:
    """The text of one side: a string, or a turn.

    Raises:
        Unfit: there is none.
    """
    if isinstance(value, Mapping):
        value = next((value[key] for key in ("content", "value", "text") if key in value), None)
    if not isinstance(value, str):
        raise Unfit("no preference", f"the {side} answer is {kind_of(value)}, not text")
    if not value.strip():
        raise Unfit("no preference", f"the {side} answer is empty")
    return value
