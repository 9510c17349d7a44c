"""Preferences, rated answers and questions as sequences to learn from, those held out apart.

::

    files ─ whole rows, each once ─ held out or not ─ template ─ ids, the answer masked in

Only the last answer is scored. What is too long loses its oldest exchanges first, then the end of its answer.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from congling.core.errors import UserError
from congling.data.config import DataConfig
from congling.data.document import Document
from congling.data.problems import Findings, Place
from congling.data.sources.compared import is_pair
from congling.data.sources.fields import Log
from congling.data.sources.turns import ASSISTANT, Message
from congling.data.tuning import preference_rows
from congling.data.tuning.chat_rows import Messages
from congling.data.tuning.examples import Example, characters_of
from congling.data.tuning.pair_batches import Pair, Rated
from congling.data.tuning.preference_rows import PairRow, QuestionRow, RatedRow, same
from congling.data.tuning.row_reader import SplitRows, encode_split, held_out, place_of, read_rows
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.chat.encode import chat_ids, render
from congling.tokenizer.chat.templates import checked

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Question:
    """A conversation to be answered, as ids."""

    ids: tuple[int, ...]
    row: QuestionRow


def read_pairs(config: DataConfig, tokenizer: Tokenizer, context: int) -> SplitRows[Pair]:
    """Read preference pairs, hold some out, and encode all.

    Raises:
        UserError: a file cannot be read, no pair in any is whole, or nothing can end an answer.
    """
    findings = Findings()
    encode = AnswerEncoder(tokenizer, context, findings)
    return _read(config, tokenizer, findings, preference_rows.pair_of, encode.pairs)


def read_rated(config: DataConfig, tokenizer: Tokenizer, context: int) -> SplitRows[Rated]:
    """Read answers that are good or bad; a preference pair counts as one of each.

    Raises:
        UserError: a file cannot be read, no row in any is whole, or nothing can end an answer.
    """
    findings = Findings()
    encode = AnswerEncoder(tokenizer, context, findings)

    def rated(row: RatedRow | PairRow) -> list[Rated]:
        if isinstance(row, PairRow):
            return [one for side in row.sides for one in rated(side)]
        example = encode(row.asked, row.answer, row.place)
        return [] if example is None else [Rated(example, row.good)]

    return _read(config, tokenizer, findings, rated_or_pair, rated)


def read_questions(config: DataConfig, tokenizer: Tokenizer, longest: int) -> SplitRows[Question]:
    """Read questions; those of more than ``longest`` tokens are left out, named and counted.

    Raises:
        UserError: a file cannot be read, no question in any is whole, or nothing can end an answer.
    """
    findings = Findings()
    findings.unread.rewarded = True

    def question(row: QuestionRow) -> list[Question]:
        try:
            ids = chat_ids(tokenizer, row.asked)
        except UserError as error:
            findings.problem("refused by the template", *row.place, error.what)
            return []
        if len(ids) > longest:
            reason = f"{len(ids)} tokens leave no room for an answer: at most {longest}"
            findings.problem("question too long", *row.place, reason)
            return []
        return [Question(tuple(ids), row)]

    return _read(config, tokenizer, findings, preference_rows.question_of, question)


class AnswerEncoder:
    """From a conversation and its answer to an example of which the answer alone counts."""

    def __init__(self, tokenizer: Tokenizer, context: int, findings: Findings) -> None:
        self.tokenizer, self.context, self.findings = tokenizer, context, findings
        self._characters = characters_of(tokenizer)
        self._unended = False

    def both(self, row: PairRow) -> Pair | None:
        """Both answers to the same beginning; None where one does not fit at all."""
        messages = self._shortened(row.asked, row.answers, row.place)
        chosen = self._encoded(messages, row.chosen, row.place)
        rejected = None if chosen is None else self._encoded(messages, row.rejected, row.place)
        return None if chosen is None or rejected is None else (chosen, rejected)

    def pairs(self, row: PairRow) -> list[Pair]:
        """The same in a list, which is empty also where both answers are cut to the same."""
        found = self.both(row)
        if found is not None and np.array_equal(found[0].ids, found[1].ids):
            self.findings.problem("equal sides", *row.place, "both answers are cut to the same tokens")
            return []
        return [] if found is None else [found]

    def __call__(self, asked: Messages, answer: Message, place: Place) -> Example | None:
        """One answer; None where it does not fit at all."""
        return self._encoded(self._shortened(asked, (answer,), place), answer, place)

    def _shortened(self, messages: Messages, answers: Sequence[Message], place: Place) -> Messages:
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
            self.findings.problem("conversation shortened", *place, reason)
        return kept

    def _fits(self, messages: Messages, answers: Sequence[Message]) -> bool:
        try:
            found = [render(self.tokenizer, [*messages, answer]) for answer in answers]
            return all(len(one.ids) <= self.context + 1 for one in found)
        except UserError:
            return True  # refused by the template: said where the answer is encoded

    def _encoded(self, messages: Messages, answer: Message, place: Place) -> Example | None:
        earlier = [{**turn, "loss": False} if turn["role"] == ASSISTANT else turn for turn in messages]
        try:
            rendered = render(self.tokenizer, [*earlier, answer])
        except UserError as error:
            self.findings.problem("refused by the template", *place, error.what)
            return None
        if not rendered.ended and not self._unended:
            self._unended = True
            note = "the template ends answers with no token of its own: the end of text stands in"
            self.findings.notes.append(note)
        ids, learnt = np.array(rendered.ids, np.int32), np.array(rendered.answered, bool)
        if len(ids) > self.context + 1:
            ids, learnt = ids[: self.context + 1], learnt[: self.context + 1]
            if not learnt[1:].any():
                reason = f"the question alone fills the context of {self.context} tokens"
                self.findings.problem("question too long", *place, reason)
                return None
            reason = f"it goes beyond the context of {self.context} tokens"
            self.findings.problem("answer cut off", *place, reason)
        return Example(ids, learnt, int(self._characters[ids[1:][learnt[1:]]].sum()), str(place))


def rated_or_pair(record: Any, place: Place, log: Log) -> RatedRow | PairRow:
    """A rated answer; or a preference pair, which rates two.

    Raises:
        Unfit: it is neither.
    """
    if is_pair(record):
        return preference_rows.pair_of(record, place, log)
    return preference_rows.rated_of(record, place, log)


def _read(
    config: DataConfig,
    tokenizer: Tokenizer,
    findings: Findings,
    make: preference_rows.Make[Any],
    encode: Callable[[Any], Iterable[Item]],
) -> SplitRows[Item]:
    """The whole rows of all files, encoded.

    Raises:
        UserError: a file cannot be read, or nothing can end an answer under the tokenizer's template.
    """
    findings.notes += checked(tokenizer).notes
    rows = list(preference_items(config, findings, make))
    return encode_split(rows, held_out(rows, config, findings), encode, config, findings)


def preference_items(
    config: DataConfig, findings: Findings, make: preference_rows.Make[Any]
) -> Iterable[Any]:
    """Whole rows of one sort, cleaned, each once; faults go to the findings.

    Raises:
        UserError: a file cannot be read.
    """
    for row in read_rows(config, findings, preference_rows.taker(make)):
        if isinstance(row, Document):
            findings.problem("no conversation", *place_of(row), "plain text holds no questions")
        elif isinstance(row, PairRow) and same(row.chosen, row.rejected):
            findings.problem("equal sides", *row.place, "cleaned, both answers are the same")
        else:
            yield row
