"""From a record to a preference, a rated answer or a question with a checkable answer.

=========  =========================================================================================
pair       ``chosen`` and ``rejected``: texts, turns, or whole conversations with a common beginning;
           other names of the two: ``compared``
rated      a conversation and whether its last answer is good: ``label``, ``kto_tag``, true or false
question   a conversation without its last answer; ``answer``, ``solution`` … and all other fields are kept
=========  =========================================================================================

The question before them is read as in any instruction data (``conversation``). A record that is not whole is
named and counted, never guessed at.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from congling.data.config import DataConfig
from congling.data.problems import FileNote, Place, ReadingLog
from congling.data.sources import rows
from congling.data.sources.compared import named
from congling.data.sources.conversation import side, turns_of, under_system, whole
from congling.data.sources.fields import Fields, Log, Unfit, holds, kind_of
from congling.data.sources.names import ANSWER, ASK, TALK
from congling.data.sources.turns import ASSISTANT, Message, turn_list
from congling.data.tuning.chat_rows import (
    Clean,
    Messages,
    merged_turns,
    prompt_turns,
    rows_of,
    training_turns,
)

CHOSEN = ("chosen", "chosen_response", "response_j")
REJECTED = ("rejected", "rejected_response", "response_k")
LABELS = ("label", "kto_tag", "desirable", "good")
_TRUE = ("true", "1", "1.0", "yes", "good", "desirable", "positive", "好", "是", "对")
_FALSE = ("false", "0", "0.0", "-1", "no", "bad", "undesirable", "negative", "坏", "否", "错", "差")
_TRUTH = ("answer", "ground_truth", *ANSWER)


@dataclass(frozen=True, slots=True)
class RatedRow:
    """An answer that is good or bad."""

    prompt: Messages
    answer: Message
    good: bool
    place: Place

    @property
    def answers(self) -> Messages:
        """The answer alone."""
        return (self.answer,)

    def cleaned(self, clean: Clean) -> "RatedRow":
        """The same with clean texts."""
        return replace(self, prompt=clean(self.prompt), answer=clean(self.answers)[0])


@dataclass(frozen=True, slots=True)
class PairRow:
    """A better and a worse answer to the same conversation."""

    prompt: Messages
    chosen: Message
    rejected: Message
    place: Place

    @property
    def answers(self) -> Messages:
        """The better answer and the worse."""
        return (self.chosen, self.rejected)

    @property
    def sides(self) -> tuple[RatedRow, RatedRow]:
        """Both as rated answers."""
        return (
            RatedRow(self.prompt, self.chosen, True, self.place),
            RatedRow(self.prompt, self.rejected, False, self.place),
        )

    def cleaned(self, clean: Clean) -> "PairRow":
        """The same with clean texts."""
        chosen, rejected = clean(self.answers)
        return PairRow(clean(self.prompt), chosen, rejected, self.place)


@dataclass(frozen=True, slots=True)
class QuestionRow:
    """A conversation to be answered, and what the answer can be checked with."""

    prompt: Messages
    answer: str | None
    place: Place
    fields: Mapping[str, Any] = field(default_factory=dict)
    """The whole record."""

    @property
    def answers(self) -> Messages:
        """None: they are still to be written."""
        return ()

    def cleaned(self, clean: Clean) -> "QuestionRow":
        """The same with a clean question; what a reward compares with stays as it is."""
        return replace(self, prompt=clean(self.prompt))


Row = TypeVar("Row")
Make = Callable[[Any, Place, Log], Row]


def pair_of(record: Any, place: Place, log: Log) -> PairRow:
    """The pair in one record.

    Raises:
        Unfit: there is none, or its sides are equal.
    """
    record = named(_object(record), log, listed=True)
    sides = Fields(record, log)
    names = sides.find(CHOSEN), sides.find(REJECTED)
    for name, usual in zip(names, ("chosen", "rejected"), strict=True):
        if not name:
            raise Unfit("no preference", f"the record has no {usual!r}")
    rest = {key: value for key, value in record.items() if key not in names}
    log.objects.remove(sides)
    better, worse = (_side(record[name], rest, log) for name in names)
    if len(better) == len(worse) == 1 and better[0]["role"] == worse[0]["role"] == ASSISTANT:
        before = prompt_turns(_without(turns_of(rest, log)[1], better[0]), log)
    else:
        before, better, worse = _conversations(rest, better, worse, log)
    chosen, rejected = _said(better[-1], "chosen"), _said(worse[-1], "rejected")
    if same(chosen, rejected):
        raise Unfit("chosen equals rejected", "the chosen and the rejected answer are the same")
    return PairRow(tuple(before), chosen, rejected, place)


def same(one: Message, other: Message) -> bool:
    """Whether two answers say and think the same."""
    keys = ("content", "reasoning_content")
    return all(str(one.get(key, "")).strip() == str(other.get(key, "")).strip() for key in keys)


def rated_of(record: Any, place: Place, log: Log) -> RatedRow:
    """The rated answer in one record.

    Raises:
        Unfit: there is none, or its label is neither true nor false.
    """
    fields, messages = whole(_object(record), log)
    label = fields.find(LABELS)
    if not label:
        raise Unfit("no label", f"the record has none of {', '.join(LABELS)}")
    good = _truth(fields.use(label))
    if good is None:
        value = fields[label]
        shown = repr(value)[:40] if isinstance(value, str | float | int) else kind_of(value)
        raise Unfit("no label", f"{label!r} is {shown}, not true or false")
    messages = training_turns([_learnt(turn) for turn in messages], log)
    return RatedRow(tuple(messages[:-1]), messages[-1], good, place)


def _truth(value: Any) -> bool | None:
    """What a label says; in tables it is text."""
    if isinstance(value, str):
        low = value.strip().casefold()
        return True if low in _TRUE else False if low in _FALSE else None
    if isinstance(value, bool | int | float) and value in (-1, 0, 1):
        return value == 1
    return None


def question_of(record: Any, place: Place, log: Log) -> QuestionRow:
    """The question in one record; its answer may be missing.

    Raises:
        Unfit: there is no question.
    """
    fields, messages = turns_of(record, log)
    kept = dict(record) if isinstance(record, Mapping) else {"messages": record}
    answer = _checkable(fields)
    found = merged_turns([_learnt(turn) for turn in messages], log)
    if found and found[-1]["role"] == ASSISTANT:  # a whole conversation: its last answer is the right one
        found = training_turns(found, log)
        return QuestionRow(tuple(found[:-1]), answer or found[-1]["content"], place, kept)
    return QuestionRow(tuple(prompt_turns(found, log)), answer, place, kept)


def _checkable(fields: Fields) -> str | None:
    """What an answer can be compared with: text or a number, of several the first."""
    ask = fields.find(ASK)
    for name in fields.all(_TRUTH):
        value = fields[name]
        if isinstance(value, list):
            value = value[0] if value and isinstance(value[0], str) else None
        if name != ask and isinstance(value, str | int | float) and not isinstance(value, bool):
            fields.use(name)
            return str(value)
    judged = fields[fields.find(("reward_model",))]
    truth = judged.get("ground_truth") if isinstance(judged, Mapping) else None
    return str(truth) if isinstance(truth, str | int | float) and holds(truth) else None


def taker(make: Make[Any]) -> rows.Take:
    """What turns the records of a file into rows of one sort."""

    def take(
        records: Iterable[rows.Record], note: FileNote, config: DataConfig, findings: ReadingLog
    ) -> Iterator[Any]:
        note.choice, note.why = make.__name__.removesuffix("_of") + " rows", "as the method needs"
        yield from rows_of(make, records, note.file, findings)

    return take


def _object(record: Any) -> Mapping[str, Any]:
    if not isinstance(record, Mapping):
        raise Unfit("no conversation", f"the record is {kind_of(record)}, not an object")
    return record


def _side(value: Any, rest: Mapping[str, Any], log: Log) -> list[Message]:
    """One side of a preference; a transcript is a conversation where nothing else asks."""
    if isinstance(value, str) and not any(name in rest for name in (*ASK, *TALK)):
        turns = turn_list(value)
        value = turns if turns else value
    try:
        return side(value, log) if value else [{"role": ASSISTANT, "content": ""}]
    except Unfit as unfit:
        kind = "no preference" if unfit.kind == "no answer" else unfit.kind
        raise Unfit(kind, str(unfit)) from None


def _conversations(
    rest: Mapping[str, Any], better: list[Message], worse: list[Message], log: Log
) -> tuple[list[Message], list[Message], list[Message]]:
    """What both conversations begin with, and both: whole ones, or what follows a prompt."""
    if better[-1]["role"] != ASSISTANT or worse[-1]["role"] != ASSISTANT:
        raise Unfit("no answer", "a conversation does not end with the assistant's turn")
    if better[:-1] != worse[:-1]:
        raise Unfit("no preference", "the two conversations differ before their last answer")
    fields = Fields(rest, log)
    if any(turn["role"] == "user" for turn in better):
        return prompt_turns(under_system(fields, better[:-1], log), log), better, worse
    log.objects.remove(fields)
    return prompt_turns([*turns_of(rest, log)[1], *better[:-1]], log), better, worse


def _without(messages: Sequence[Message], answer: Message) -> Sequence[Message]:
    """A conversation without its last turn, where that is the better answer once more."""
    return messages[:-1] if messages and same(messages[-1], answer) else messages


def _said(turn: Message, name: str) -> Message:
    """One side of a preference, which says something.

    Raises:
        Unfit: it says nothing.
    """
    if not holds(turn["content"]) and "reasoning_content" not in turn:
        raise Unfit("no preference", f"the {name} answer is empty")
    return _learnt(turn)


def _learnt(turn: Message) -> Message:
    """A turn without the flag of fine-tuning: what is scored here is the last answer alone."""
    return {key: value for key, value in turn.items() if key != "loss"}
