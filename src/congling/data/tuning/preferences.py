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
from congling.data.problems import Place, ReadingLog
from congling.data.sources.compared import is_pair
from congling.data.sources.fields import Log
from congling.data.sources.turns import Message
from congling.data.tuning import preference_rows
from congling.data.tuning.chat_rows import Messages
from congling.data.tuning.examples import Example
from congling.data.tuning.pair_batches import Pair, Rated
from congling.data.tuning.preference_rows import PairRow, QuestionRow, RatedRow, same
from congling.data.tuning.row_encoder import RowEncoder, last_answer_alone
from congling.data.tuning.row_reader import SplitRows, place_of, read_rows, split_rows
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.chat.encode import chat_ids, render

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
    encode = AnswerEncoder(tokenizer, context, ReadingLog())
    return _read(config, preference_rows.pair_of, encode, encode.pairs)


def read_rated(config: DataConfig, tokenizer: Tokenizer, context: int) -> SplitRows[Rated]:
    """Read answers that are good or bad; a preference pair counts as one of each.

    Raises:
        UserError: a file cannot be read, no row in any is whole, or nothing can end an answer.
    """
    encode = AnswerEncoder(tokenizer, context, ReadingLog())
    return _read(config, rated_or_pair, encode, encode.rated)


def read_questions(config: DataConfig, tokenizer: Tokenizer, longest: int) -> SplitRows[Question]:
    """Read questions; those of more than ``longest`` tokens are left out, named and counted.

    Raises:
        UserError: a file cannot be read, no question in any is whole, or nothing can end an answer.
    """
    encode = QuestionEncoder(tokenizer, longest + 1, ReadingLog())
    encode.findings.unread.rewarded = True
    return _read(config, preference_rows.question_of, encode, encode.__call__)


class QuestionEncoder(RowEncoder):
    """From a question to its ids, up to where the answer begins."""

    def __call__(self, row: QuestionRow) -> list[Question]:
        """The question; none where it leaves no room for an answer."""
        try:
            ids = chat_ids(self.tokenizer, row.prompt)
        except UserError as error:
            self.refused(row.place, error)
            return []
        if len(ids) >= self.context:
            reason = f"{len(ids)} tokens leave no room for an answer: at most {self.context - 1}"
            self.findings.problem("question too long", *row.place, reason)
            return []
        return [Question(tuple(ids), row)]

    def sides(self, row: QuestionRow) -> Iterable[tuple[str, Example]]:
        """The same as an example of which nothing is learnt."""
        for question in self(row):
            ids = np.array(question.ids, np.int32)
            yield "", self.masked(ids, np.zeros(len(ids), bool), str(row.place))


class AnswerEncoder(RowEncoder):
    """From a conversation and its answer to an example of which the answer alone counts."""

    def both(self, row: PairRow) -> Pair | None:
        """Both answers to the same beginning; None where one does not fit at all."""
        messages = self._shortened(row.prompt, row.answers, row.place)
        chosen = self._encoded(messages, row.chosen, row.place)
        rejected = None if chosen is None else self._encoded(messages, row.rejected, row.place)
        return None if chosen is None or rejected is None else (chosen, rejected)

    def pairs(self, row: PairRow) -> list[Pair]:
        """The same in a list, which is empty also where both answers are cut to the same."""
        found = self.both(row)
        if found is not None and np.array_equal(found[0].input_ids, found[1].input_ids):
            self.findings.problem("chosen equals rejected", *row.place, "both are cut to the same tokens")
            return []
        return [] if found is None else [found]

    def rated(self, row: RatedRow | PairRow) -> list[Rated]:
        """A rated answer, none where it does not fit at all; or both of a pair, each for itself."""
        if isinstance(row, PairRow):
            return [one for side in row.sides for one in self.rated(side)]
        messages = self._shortened(row.prompt, row.answers, row.place)
        example = self._encoded(messages, row.answer, row.place)
        return [] if example is None else [Rated(example, row.good)]

    def sides(self, row: RatedRow | PairRow) -> Iterable[tuple[str, Example]]:
        """A pair's two answers, or one that is good or bad."""
        if isinstance(row, RatedRow):
            return [("good" if one.good else "bad", one.example) for one in self.rated(row)]
        names = ("chosen", "rejected")
        return [(name, one) for pair in self.pairs(row) for name, one in zip(names, pair, strict=True)]

    def _shortened(self, messages: Messages, answers: Sequence[Message], place: Place) -> Messages:
        """The conversation without the oldest exchanges that keep an answer from fitting."""
        kept = messages
        while True:
            following = [i for i, turn in enumerate(kept) if turn["role"] == "user"][1:]
            if not following or self._all_fit(kept, answers):
                break
            system = tuple(turn for turn in kept[:1] if turn["role"] == "system")
            kept = (*system, *kept[following[0] :])
        if len(kept) < len(messages):
            reason = f"{len(messages) - len(kept)} of {len(messages)} turns are beyond the context"
            self.findings.problem("conversation shortened", *place, reason)
        return kept

    def _all_fit(self, messages: Messages, answers: Sequence[Message]) -> bool:
        try:
            return all(self.fits(render(self.tokenizer, [*messages, answer])) for answer in answers)
        except UserError:
            return True  # refused by the template: said where the answer is encoded

    def _encoded(self, messages: Messages, answer: Message, place: Place) -> Example | None:
        try:
            rendered = render(self.tokenizer, last_answer_alone([*messages, answer]))
        except UserError as error:
            self.refused(place, error)
            return None
        return self.example(rendered, place)


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
    make: preference_rows.Make[Any],
    encoder: RowEncoder,
    encode: Callable[[Any], Iterable[Item]],
) -> SplitRows[Item]:
    """The whole rows of all files, encoded.

    Raises:
        UserError: a file cannot be read, or nothing can end an answer under the tokenizer's template.
    """
    return split_rows(preference_items(config, encoder.findings, make), encoder, encode, config)


def preference_items(
    config: DataConfig, findings: ReadingLog, make: preference_rows.Make[Any]
) -> Iterable[Any]:
    """Whole rows of one sort, cleaned, each once; faults go to the findings.

    Raises:
        UserError: a file cannot be read.
    """
    for row in read_rows(config, findings, preference_rows.taker(make)):
        if isinstance(row, Document):
            findings.problem("no conversation", *place_of(row), "plain text holds no questions")
        elif isinstance(row, PairRow) and same(row.chosen, row.rejected):
            findings.problem("chosen equals rejected", *row.place, "cleaned, both answers are the same")
        else:
            yield row
