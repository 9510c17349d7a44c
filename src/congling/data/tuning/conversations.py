"""Conversations and plain texts as examples to learn from, those held out apart.

::

    files ─ rows ─┬─ conversations ─ template ─ ids, answers masked in ──────────┬─ hold out ─ examples
                  └─ texts ─ ids, all learnt, windows of the context ────────────┘

An answer that the template asks for otherwise than it writes it in a history is an example of its own. What
is too long is shortened at the borders of turns; each row that is left out or shortened is counted and named.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from congling.core.errors import UserError
from congling.core.units import plural
from congling.data.config import DataConfig
from congling.data.document import Document
from congling.data.problems import ReadingLog
from congling.data.tuning import chat_rows
from congling.data.tuning.chat_rows import Conversation
from congling.data.tuning.examples import Example
from congling.data.tuning.row_encoder import RowEncoder, last_answer_alone
from congling.data.tuning.row_reader import SplitRows, read_rows, split_rows
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.chat.encode import Message, Rendered, render

Item = Conversation | Document


def read(config: DataConfig, tokenizer: Tokenizer, context: int) -> SplitRows[Example]:
    """Read files, hold some of their questions or texts out, and encode all.

    Raises:
        UserError: a file cannot be read, there is nothing to learn in any, or nothing can end an answer.
    """
    encode = ConversationEncoder(tokenizer, context, ReadingLog())
    return split_rows(read_items(config, encode.findings), encode, encode.__call__, config)


class ConversationEncoder(RowEncoder):
    """From conversations and texts to examples that fit into the context."""

    def __init__(self, tokenizer: Tokenizer, context: int, findings: ReadingLog) -> None:
        super().__init__(tokenizer, context, findings)
        self.apart = self.parted = 0
        """Answers that are examples of their own, and the conversations they come from."""

    def __call__(self, item: Item) -> list[Example]:
        """Examples of one conversation or text; none where nothing can be learnt from it."""
        return self._text(item) if isinstance(item, Document) else self._conversation(item)

    def sides(self, row: Item) -> Iterable[tuple[str, Example]]:
        """The same, as of a row with one side."""
        return [("", example) for example in self(row)]

    @property
    def notes(self) -> list[str]:
        """What a person should know of how the template wrote the conversations so far."""
        found = super().notes
        if self.apart:
            found.append(
                f"{self.apart:,} earlier {plural(self.apart, 'answer')} of {self.parted:,} "
                f"{plural(self.parted, 'conversation')} trained in examples of their own: "
                "the template asks for an answer otherwise than it writes it in a history"
            )
        return found

    def _text(self, document: Document) -> list[Example]:
        """Windows over a text, each id after the first learnt once."""
        tokenizer = self.tokenizer
        ids = np.array([tokenizer.bos_id, *tokenizer.encode(document.text), tokenizer.eos_id], np.int32)
        starts = range(0, len(ids) - 1, self.context)
        windows = [ids[start : start + self.context + 1] for start in starts]
        return [self.masked(window, np.ones(len(window), bool), document.id) for window in windows]

    def _conversation(self, row: Conversation) -> list[Example]:
        """The conversation, or as many of its turns as fit, and answers that need an example of their own."""
        ends = [i + 1 for i, turn in enumerate(row.messages) if _learnt(turn)]
        try:
            found, kept = render(self.tokenizer, row.messages[: ends[-1]]), ends[-1]
            if not self.fits(found):
                found, kept = self._fitting(row, ends)
            earlier = [last_answer_alone(row.messages[: place + 1]) for place in found.apart]
            alone = [render(self.tokenizer, messages) for messages in earlier]
        except UserError as error:
            self.refused(row.place, error)
            return []
        if kept < ends[-1]:
            reason = f"{ends[-1] - kept} of {len(row.messages)} turns are beyond the context"
            self.findings.problem("conversation shortened", *row.place, reason)
        self.apart += len(alone)
        self.parted += bool(alone)
        examples = [self.example(rendered, row.place) for rendered in (*alone, found)]
        return [example for example in examples if example is not None]

    def _fitting(self, row: Conversation, ends: Sequence[int]) -> tuple[Rendered, int]:
        """The longest beginning that fits, at least the first exchange; and its number of turns."""
        found, kept = render(self.tokenizer, row.messages[: ends[0]]), ends[0]
        for end in ends[1:]:
            longer = render(self.tokenizer, row.messages[:end])
            if not self.fits(longer):
                break
            found, kept = longer, end
        return found, kept


def _learnt(turn: Message) -> bool:
    return turn["role"] == "assistant" and turn.get("loss") is not False


def read_items(config: DataConfig, findings: ReadingLog) -> Iterator[Item]:
    """Conversations and texts of the files, cleaned, each once; faults go to the findings.

    Raises:
        UserError: a file cannot be read.
    """
    return read_rows(config, findings, chat_rows.take)
