"""Preferences, rated answers and questions as sequences to learn from, those held out apart.

::

    files ─ whole rows, each once ─ held out or not ─ template ─ ids, the answer masked in

Only the last answer is scored. What is too long loses its oldest exchanges first, then the end of its answer.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np

from congling.core.errors import UserError
from congling.core.progress import track
from congling.data.chats import characters_of
from congling.data.clean import clean
from congling.data.config import SMALL_WORLD, DataConfig
from congling.data.dedup import content_hash
from congling.data.document import Document
from congling.data.examples import Example
from congling.data.findings import Findings
from congling.data.sequences import Pair, Rated
from congling.data.sources import preference_rows, reading
from congling.data.sources.preference_rows import Messages, PairRow, QuestionRow, RatedRow
from congling.data.split import hold_out
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.chat import chat_ids, render
from congling.tokenizer.templates import checked

Item = TypeVar("Item")


@dataclass(frozen=True)
class Preferences(Generic[Item]):
    """What there is to learn from, and to measure with."""

    train: Sequence[Item]
    validation: Sequence[Item]
    questions: Sequence[Messages]
    """Held-out conversations without an answer, the first few: what to ask while training."""
    findings: Findings


@dataclass(frozen=True, slots=True)
class Question:
    """A conversation to be answered, as ids."""

    ids: tuple[int, ...]
    row: QuestionRow


QUESTIONS = 3


def read_pairs(config: DataConfig, tokenizer: Tokenizer, context: int) -> Preferences[Pair]:
    """Read preference pairs, hold some out, and encode all.

    Raises:
        UserError: a file cannot be read, no pair in any is whole, or nothing can end an answer.
    """
    findings = Findings()
    encode = AnswerEncoder(tokenizer, context, findings)

    def pair(row: PairRow) -> Pair | None:
        sides = encode.both(row)
        if sides is not None and np.array_equal(sides[0].ids, sides[1].ids):
            _problem(findings, "equal sides", row.id, "both answers are cut to the same tokens")
            return None
        return sides

    return _parted(_rows(config, tokenizer, findings, preference_rows.pair_of), config, findings, pair)


def read_rated(config: DataConfig, tokenizer: Tokenizer, context: int) -> Preferences[Rated]:
    """Read answers that are good or bad; a preference pair counts as one of each.

    Raises:
        UserError: a file cannot be read, no row in any is whole, or nothing can end an answer.
    """
    findings = Findings()
    encode = AnswerEncoder(tokenizer, context, findings)

    def rated(row: RatedRow) -> Rated | None:
        example = encode(row.messages, row.answer, row.id)
        return None if example is None else Rated(example, row.good)

    rows = []
    for row in _rows(config, tokenizer, findings, _rated_or_pair):
        if isinstance(row, PairRow):
            sides = ((row.chosen, True), (row.rejected, False))
            rows += [RatedRow(row.messages, text, good, row.id) for text, good in sides]
        else:
            rows.append(row)
    return _parted(rows, config, findings, rated)


def read_questions(config: DataConfig, tokenizer: Tokenizer, longest: int) -> Preferences[Question]:
    """Read questions; those of more than ``longest`` tokens are left out, named and counted.

    Raises:
        UserError: a file cannot be read, no question in any is whole, or nothing can end an answer.
    """
    findings = Findings()

    def question(row: QuestionRow) -> Question | None:
        try:
            ids = chat_ids(tokenizer, row.messages)
        except UserError as error:
            _problem(findings, "refused by the template", row.id, error.what)
            return None
        if len(ids) > longest:
            reason = f"{len(ids)} tokens leave no room for an answer: at most {longest}"
            _problem(findings, "question too long", row.id, reason)
            return None
        return Question(tuple(ids), row)

    return _parted(
        _rows(config, tokenizer, findings, preference_rows.question_of), config, findings, question
    )


class AnswerEncoder:
    """From a conversation and its answer to an example of which the answer alone counts."""

    def __init__(self, tokenizer: Tokenizer, context: int, findings: Findings) -> None:
        self.tokenizer, self.context, self.findings = tokenizer, context, findings
        self._characters = characters_of(tokenizer)
        self._unended = False

    def both(self, row: PairRow) -> Pair | None:
        """Both answers to the same beginning; None where one does not fit at all."""
        messages = self._shortened(row.messages, (row.chosen, row.rejected), row.id)
        chosen = self._encoded(messages, row.chosen, row.id)
        rejected = None if chosen is None else self._encoded(messages, row.rejected, row.id)
        return None if chosen is None or rejected is None else (chosen, rejected)

    def __call__(self, messages: Messages, answer: str, name: str) -> Example | None:
        """One answer; None where it does not fit at all."""
        return self._encoded(self._shortened(messages, (answer,), name), answer, name)

    def _shortened(self, messages: Messages, answers: Sequence[str], name: str) -> Messages:
        """The conversation without the oldest exchanges that keep an answer from fitting."""
        kept = messages
        while True:
            following = [i for i, turn in enumerate(kept) if turn["role"] == "user"][1:]
            if not following or self._fits(kept, answers):
                break
            system = tuple(turn for turn in kept[:1] if turn["role"] == "system")
            kept = (*system, *kept[following[0] :])
        if len(kept) < len(messages):
            reason = f"{len(messages) - len(kept)} of {len(messages)} turns are beyond the context"
            _problem(self.findings, "conversation shortened", name, reason)
        return kept

    def _fits(self, messages: Messages, answers: Sequence[str]) -> bool:
        try:
            found = [render(self.tokenizer, [*messages, _answer(answer)]) for answer in answers]
            return all(len(one.ids) <= self.context + 1 for one in found)
        except UserError:
            return True  # refused by the template: said where the answer is encoded

    def _encoded(self, messages: Messages, answer: str, name: str) -> Example | None:
        try:
            rendered = render(self.tokenizer, [*messages, _answer(answer)])
        except UserError as error:
            _problem(self.findings, "refused by the template", name, error.what)
            return None
        if not rendered.ended and not self._unended:
            self._unended = True
            note = "the template ends answers with no token of its own: the end of text stands in"
            self.findings.notes.append(note)
        ids, learnt = np.array(rendered.ids, np.int32), _last_answer(rendered.answered)
        if len(ids) > self.context + 1:
            ids, learnt = ids[: self.context + 1], learnt[: self.context + 1]
            if not learnt[1:].any():
                reason = f"the question alone fills the context of {self.context} tokens"
                _problem(self.findings, "question too long", name, reason)
                return None
            reason = f"it goes beyond the context of {self.context} tokens"
            _problem(self.findings, "answer cut off", name, reason)
        return Example(ids, learnt, int(self._characters[ids[1:][learnt[1:]]].sum()), name)


def _last_answer(answered: Sequence[bool]) -> np.ndarray:
    """The last run of answered ids: earlier answers are part of the question."""
    flags = np.array(answered, bool)
    before = np.flatnonzero(~flags)
    flags[: before[-1] if len(before) else 0] = False
    return flags


def _answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def _rated_or_pair(record: Any, name: str) -> RatedRow | PairRow:
    if isinstance(record, dict) and "chosen" in record and "rejected" in record:
        return preference_rows.pair_of(record, name)
    return preference_rows.rated_of(record, name)


def _rows(
    config: DataConfig, tokenizer: Tokenizer, findings: Findings, make: Callable[[Any, str], Any]
) -> list[Any]:
    """The whole rows of all files, each once.

    Raises:
        UserError: a file cannot be read, or nothing can end an answer under the tokenizer's template.
    """
    if SMALL_WORLD in config.sources:
        raise UserError("the small world makes texts here, no rows to answer", value=SMALL_WORLD,
                        hint="make rows of it first: congling data rows")  # fmt: skip
    findings.notes += checked(tokenizer).notes
    seen: set[int] = set()
    found = []
    for row in reading.read(config.sources, config, findings, preference_rows.taker(make)):
        if isinstance(row, Document):
            _problem(findings, "no conversation", row.id, "plain text holds no questions")
            continue
        row = _cleaned(row, config)
        if not all(text.strip() for text in _texts(row)):
            _problem(findings, "nothing to see", row.id, "a turn or an answer holds nothing that can be seen")
            continue
        if isinstance(row, PairRow) and row.chosen.strip() == row.rejected.strip():
            _problem(findings, "equal sides", row.id, "cleaned, both answers are the same")
            continue
        known = content_hash(repr(replace(row, id="")))
        if known in seen:
            _problem(findings, "copy", row.id, "equal to an earlier one")
            continue
        seen.add(known)
        found.append(row)
    return found


def _cleaned(row: Any, config: DataConfig) -> Any:
    """A row with its texts cleaned, as all that is learnt from is; what a reward compares with stays."""

    def cleaned(text: str) -> str:
        return clean(text, config)[0]

    messages = tuple({**turn, "content": cleaned(turn["content"])} for turn in row.messages)
    if isinstance(row, PairRow):
        return replace(row, messages=messages, chosen=cleaned(row.chosen), rejected=cleaned(row.rejected))
    answer = {"answer": cleaned(row.answer)} if isinstance(row, RatedRow) else {}
    return replace(row, messages=messages, **answer)


def _texts(row: Any) -> list[str]:
    """All texts of a row that are encoded."""
    said = [turn["content"] for turn in row.messages]
    if isinstance(row, PairRow):
        return [*said, row.chosen, row.rejected]
    return [*said, row.answer] if isinstance(row, RatedRow) else said


def _parted(
    rows: list[Any], config: DataConfig, findings: Findings, encode: Callable[[Any], Item | None]
) -> Preferences[Item]:
    """Hold rows out by what they ask, and encode all."""
    texts = [json.dumps(row.messages) for row in rows]
    held_out = hold_out([content_hash(one) for one in texts], [len(one) for one in texts], config.split)
    if held_out.note:
        findings.notes.append(held_out.note)
    parts: dict[bool, list[Item]] = {False: [], True: []}
    asked = []
    for row, flag in track(
        list(zip(rows, held_out.flags.tolist(), strict=True)), "encoding", total=len(rows)
    ):
        item = encode(row)
        if item is None:
            continue
        parts[flag].append(item)
        if flag and len(asked) < QUESTIONS:
            asked.append(row.messages)
    if not parts[False]:
        why = ", ".join(f"{count} × {kind}" for kind, count in findings.counts.most_common(4))
        raise UserError("there is nothing to learn in this data", value=" ".join(config.sources),
                        hint=f"found: {why}" if why else "the files hold no rows")  # fmt: skip
    return Preferences(parts[False], parts[True], asked, findings)


def _problem(findings: Findings, kind: str, name: str, reason: str) -> None:
    file, _, line = name.rpartition(":")
    findings.problem(kind, file, int(line.partition(".")[0]), reason)
