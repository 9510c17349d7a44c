"""Conversations and plain texts as examples to learn from, those held out apart.

::

    files ─ rows ─┬─ conversations ─ template ─ ids, answers masked in ──────────┬─ hold out ─ examples
                  └─ texts ─ ids, all learnt, windows of the context ────────────┘

An answer that the template asks for otherwise than it writes it in a history is an example of its own. What
is too long is shortened at the borders of turns; each row that is left out or shortened is counted and named.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from congling.core.errors import UserError
from congling.core.units import plural
from congling.data.config import DataConfig
from congling.data.document import Document
from congling.data.problems import Findings
from congling.data.split import cut_last_part
from congling.data.tuning import chat_rows
from congling.data.tuning.chat_rows import Conversation
from congling.data.tuning.examples import Example, characters_of, targets_of
from congling.data.tuning.row_reader import SplitRows, domains_of, encode_split, held_out, read_rows
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.chat.encode import Message, Rendered, render
from congling.tokenizer.chat.templates import checked

Item = Conversation | Document


@dataclass(frozen=True)
class Examples:
    """What there is to learn from, and to measure with."""

    train: Sequence[Example]
    validation: Sequence[Example]
    conversations: int
    """Of the rows that were read, with those held out."""
    documents: int
    """Plain texts, with those held out."""
    held_out: int
    """Conversations and texts."""
    questions: Sequence[Sequence[Message]]
    """Held-out conversations without their last answer, the first few: what to ask while training."""
    findings: Findings
    domains: Mapping[str, str]
    """What each held-out conversation is about, by its id, where its row says so: for losses by domain."""

    @property
    def tokens_per_character(self) -> float:
        """Of what is learnt: turns nats a token into bits a character."""
        return targets_of(self.train) / max(1, sum(example.characters for example in self.train))


def read(config: DataConfig, tokenizer: Tokenizer, context: int) -> Examples:
    """Read files, hold some of their questions or texts out, and encode all.

    Raises:
        UserError: a file cannot be read, there is nothing to learn in any, or nothing can end an answer.
    """
    findings = Findings()
    items: Sequence[Item] = list(read_items(config, findings))
    talks = sum(isinstance(item, Conversation) for item in items)
    if talks:
        findings.notes += checked(tokenizer).notes
    flags, items = _divided(items, config, findings)
    encode = Encoder(tokenizer, context, findings)
    found: SplitRows[Example] = encode_split(items, flags, encode, config, findings)
    findings.notes += encode.notes
    return Examples(
        found.train,
        found.validation,
        talks,
        len(items) - talks,
        len(found.held_out),
        found.questions,
        findings,
        domains_of(found.held_out),
    )


class Encoder:
    """From conversations and texts to examples that fit into the context; faults go to the findings."""

    def __init__(self, tokenizer: Tokenizer, context: int, findings: Findings) -> None:
        self.tokenizer, self.context, self.findings = tokenizer, context, findings
        self.unended = 0
        """Conversations whose last answer the template does not end."""
        self.apart = self.parted = 0
        """Answers that are examples of their own, and the conversations they come from."""
        self.lengths: list[int] = []
        """Ids of every conversation that was rendered, before it was shortened."""
        self._characters = characters_of(tokenizer)

    def __call__(self, item: Item) -> list[Example]:
        """Examples of one conversation or text; none where nothing can be learnt from it."""
        return self._text(item) if isinstance(item, Document) else self._talk(item)

    @property
    def notes(self) -> list[str]:
        """What a person should know of how the template wrote the conversations so far."""
        found = []
        if self.unended:
            found.append(
                f"the template ends {self.unended} answers with no token of its own: "
                "the end of text stands in"
            )
        if self.apart:
            found.append(
                f"{self.apart:,} earlier {plural(self.apart, 'answer')} of {self.parted:,} "
                f"{plural(self.parted, 'conversation')} learnt in examples of their own: "
                "the template asks for an answer otherwise than it writes it in a history"
            )
        return found

    def _text(self, document: Document) -> list[Example]:
        """Windows over a text, each id after the first learnt once."""
        tokenizer = self.tokenizer
        ids = np.array([tokenizer.bos_id, *tokenizer.encode(document.text), tokenizer.eos_id], np.int32)
        starts = range(0, len(ids) - 1, self.context)
        windows = [ids[start : start + self.context + 1] for start in starts]
        return [self._example(window, np.ones(len(window), bool), document) for window in windows]

    def _talk(self, talk: Conversation) -> list[Example]:
        """The conversation, or as many of its turns as fit, and answers that need an example of their own."""
        ends = [i + 1 for i, turn in enumerate(talk.messages) if _learnt(turn)]
        try:
            found = render(self.tokenizer, talk.messages[: ends[-1]])
            self.lengths.append(len(found.ids))
            kept = ends[-1]
            if len(found.ids) > self.context + 1:
                found, kept = self._fitting(talk, ends)
            alone = [render(self.tokenizer, _only(talk.messages[: place + 1])) for place in found.apart]
        except UserError as error:
            self._problem("refused by the template", talk, error.what)
            return []
        if kept < ends[-1]:
            reason = f"{ends[-1] - kept} of {len(talk.messages)} turns are beyond the context"
            self._problem("conversation shortened", talk, reason)
        self.apart += len(alone)
        self.parted += bool(alone)
        return [example for one in (*alone, found) for example in self._cut(one, talk)]

    def _fitting(self, talk: Conversation, ends: Sequence[int]) -> tuple[Rendered, int]:
        """The longest beginning that fits, at least the first exchange; and its number of turns."""
        found, kept = render(self.tokenizer, talk.messages[: ends[0]]), ends[0]
        for end in ends[1:]:
            longer = render(self.tokenizer, talk.messages[:end])
            if len(longer.ids) > self.context + 1:
                break
            found, kept = longer, end
        return found, kept

    def _cut(self, rendered: Rendered, talk: Conversation) -> list[Example]:
        """An example of it, its answer cut off where it is too long; none if nothing of an answer is left."""
        self.unended += not rendered.ended
        ids, learnt = np.array(rendered.ids, np.int32), np.array(rendered.answered, bool)
        if len(ids) > self.context + 1:
            ids, learnt = ids[: self.context + 1], learnt[: self.context + 1]
            if not learnt[1:].any():
                reason = f"the question alone fills the context of {self.context} tokens"
                self._problem("question too long", talk, reason)
                return []
            self._problem("answer cut off", talk, f"it goes beyond the context of {self.context} tokens")
        return [self._example(ids, learnt, talk)]

    def _example(self, ids: np.ndarray, learnt: np.ndarray, item: Item) -> Example:
        name = item.id if isinstance(item, Document) else str(item.place)
        return Example(ids, learnt, int(self._characters[ids[1:][learnt[1:]]].sum()), name)

    def _problem(self, kind: str, talk: Conversation, reason: str) -> None:
        self.findings.problem(kind, *talk.place, reason)


def _learnt(turn: Message) -> bool:
    return turn["role"] == "assistant" and turn.get("loss") is not False


def _only(messages: Sequence[Message]) -> list[Message]:
    """Turns of which the last alone is learnt."""
    earlier = [{**turn, "loss": False} if turn["role"] == "assistant" else turn for turn in messages[:-1]]
    return [*earlier, messages[-1]]


def read_items(config: DataConfig, findings: Findings) -> Iterator[Item]:
    """Conversations and texts of the files, cleaned, each once; faults go to the findings.

    Raises:
        UserError: a file cannot be read.
    """
    return read_rows(config, findings, chat_rows.take)


def _divided(
    items: Sequence[Item], config: DataConfig, findings: Findings
) -> tuple[Sequence[bool], Sequence[Item]]:
    """Which items are held out; of a single text its last part is."""
    if len(items) == 1 and isinstance(items[0], Document):
        head, tail = cut_last_part(items[0].text, config.split)
        if tail:
            return (False, True), (replace(items[0], text=head), replace(items[0], text=tail))
    return held_out(items, config, findings), items
