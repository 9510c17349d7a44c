"""Conversations and plain texts as examples to learn from, those held out apart.

::

    files ─ rows ─┬─ conversations ─ template ─ ids, answers masked in ──────────┬─ hold out ─ examples
                  └─ texts ─ ids, all learnt, windows of the context ────────────┘

What is too long is shortened at the borders of turns; every row that is left out or shortened is counted and
named.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from congling.core.errors import UserError
from congling.core.progress import track
from congling.data.clean import clean
from congling.data.config import SMALL_WORLD, DataConfig
from congling.data.dedup import content_hash
from congling.data.document import Document
from congling.data.examples import Example, targets_of
from congling.data.findings import Findings
from congling.data.sources import chat_rows, reading
from congling.data.sources.chat_rows import Talk
from congling.data.split import cut_last_part, hold_out
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.chat import Message, render
from congling.tokenizer.templates import checked

Item = Talk | Document
QUESTIONS = 3
"""Held-out questions that are kept as they are."""


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
    """Read files, hold some of their rows or texts out, and encode all.

    Raises:
        UserError: a file cannot be read, there is nothing to learn in any, or nothing can end an answer.
    """
    findings = Findings()
    items = list(read_items(config, findings))
    if any(isinstance(item, Talk) for item in items):
        findings.notes += checked(tokenizer).notes
    flags, items = _held_out(items, config, findings)
    encode = Encoder(tokenizer, context, findings)
    parts: dict[bool, list[Example]] = {False: [], True: []}
    kept = {False: 0, True: 0}
    for item, flag in track(zip(items, flags, strict=True), "encoding", total=len(items)):
        found = encode(item)
        kept[flag] += bool(found)
        parts[flag] += found
    if not parts[False]:
        why = ", ".join(f"{count} × {kind}" for kind, count in findings.counts.most_common(4))
        raise UserError("there is nothing to learn in this data", value=" ".join(config.sources),
                        hint=f"found: {why}" if why else "give rows with answers, or texts")  # fmt: skip
    if encode.unended:
        findings.notes.append(
            f"the template ends {encode.unended} answers with no token of its own: the end of text stands in"
        )
    asked = [
        item.messages[:-1] for item, flag in zip(items, flags, strict=True) if flag and isinstance(item, Talk)
    ]
    domains = {
        item.id: item.domain
        for item, flag in zip(items, flags, strict=True)
        if flag and isinstance(item, Talk) and item.domain
    }
    talks = sum(isinstance(item, Talk) for item in items)
    return Examples(
        parts[False], parts[True], talks, len(items) - talks, kept[True], asked[:QUESTIONS], findings, domains
    )


class Encoder:
    """From conversations and texts to examples that fit into the context; faults go to the findings."""

    def __init__(self, tokenizer: Tokenizer, context: int, findings: Findings) -> None:
        self.tokenizer, self.context, self.findings = tokenizer, context, findings
        self.unended = 0
        self.lengths: list[int] = []
        """Ids of every conversation that was rendered, before it was shortened."""
        self._characters = characters_of(tokenizer)

    def __call__(self, item: Item) -> list[Example]:
        """Examples of one conversation or text; none where nothing can be learnt from it."""
        return self._text(item) if isinstance(item, Document) else self._talk(item)

    def _text(self, document: Document) -> list[Example]:
        """Windows over a text, each id after the first learnt once."""
        tokenizer = self.tokenizer
        ids = np.array([tokenizer.bos_id, *tokenizer.encode(document.text), tokenizer.eos_id], np.int32)
        starts = range(0, len(ids) - 1, self.context)
        windows = [ids[start : start + self.context + 1] for start in starts]
        return [self._example(window, np.ones(len(window), bool), document.id) for window in windows]

    def _talk(self, talk: Talk) -> list[Example]:
        """The conversation, or as many of its turns as fit; a first answer too long by itself is cut off."""
        ends = [i + 1 for i, turn in enumerate(talk.messages) if turn["role"] == "assistant"]
        try:
            found, kept = self._rendered(talk, ends[-1]), ends[-1]
            self.lengths.append(len(found[0]))
            if len(found[0]) > self.context + 1:
                found, kept = self._fitting(talk, ends)
        except UserError as error:
            _problem(self.findings, "refused by the template", talk, error.what)
            return []
        ids, learnt = found
        if len(ids) > self.context + 1:
            ids, learnt = ids[: self.context + 1], learnt[: self.context + 1]
            if not learnt[1:].any():
                reason = f"the question alone fills the context of {self.context} tokens"
                _problem(self.findings, "question too long", talk, reason)
                return []
            reason = f"it goes beyond the context of {self.context} tokens"
            _problem(self.findings, "answer cut off", talk, reason)
        elif kept < len(talk.messages):
            reason = f"{len(talk.messages) - kept} of {len(talk.messages)} turns are beyond the context"
            _problem(self.findings, "conversation shortened", talk, reason)
        return [self._example(ids, learnt, talk.id)]

    def _fitting(self, talk: Talk, ends: Sequence[int]) -> tuple[tuple[np.ndarray, np.ndarray], int]:
        """The longest beginning that fits, at least the first exchange; and its number of turns."""
        found, kept = self._rendered(talk, ends[0]), ends[0]
        for end in ends[1:]:
            longer = self._rendered(talk, end)
            if len(longer[0]) > self.context + 1:
                break
            found, kept = longer, end
        return found, kept

    def _rendered(self, talk: Talk, turns: int) -> tuple[np.ndarray, np.ndarray]:
        rendered = render(self.tokenizer, talk.messages[:turns])
        self.unended += not rendered.ended
        return np.array(rendered.ids, np.int32), np.array(rendered.answered, bool)

    def _example(self, ids: np.ndarray, learnt: np.ndarray, name: str) -> Example:
        return Example(ids, learnt, int(self._characters[ids[1:][learnt[1:]]].sum()), name)


def characters_of(tokenizer: Tokenizer) -> np.ndarray:
    """(V,) int64: characters that begin in each piece; 0 for special ids."""
    special = set(tokenizer.special.values())
    pieces = (b"" if i in special else tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size))
    return np.array([sum(byte & 0xC0 != 0x80 for byte in piece) for piece in pieces], np.int64)


def read_items(config: DataConfig, findings: Findings) -> Iterator[Item]:
    """Conversations and texts of the files, cleaned, each once; faults go to the findings.

    Raises:
        UserError: a file cannot be read.
    """
    return _once(_items(config, findings), findings)


def _items(config: DataConfig, findings: Findings) -> Iterator[Item]:
    """Everything in the files, cleaned."""
    if SMALL_WORLD in config.sources:
        raise UserError("the small world makes texts, no rows to answer", hint="name files of rows or texts")
    for item in reading.read(config.sources, config, findings, chat_rows.take):
        if isinstance(item, Document):
            text, _ = clean(item.text, config)
            yield replace(item, text=text)
        else:
            messages = [{**turn, "content": clean(turn["content"], config)[0]} for turn in item.messages]
            if all(turn["content"].strip() for turn in messages):
                yield replace(item, messages=tuple(messages))
            else:
                _problem(findings, "no answer", item, "a turn holds nothing that can be seen")


def _once(items: Iterable[Item], findings: Findings) -> Iterator[Item]:
    """Each item once: equal ones would stand on both sides of the split."""
    seen: set[int] = set()
    for item in items:
        found = _hash(item)
        if found in seen:
            _problem(findings, "copy", item, "equal to an earlier one")
        elif _length(item):
            seen.add(found)
            yield item


def _held_out(
    items: list[Item], config: DataConfig, findings: Findings
) -> tuple[Sequence[bool], Sequence[Item]]:
    """Which items are held out; of a single text its last part is."""
    if len(items) == 1 and isinstance(items[0], Document):
        head, tail = cut_last_part(items[0].text, config.split)
        if tail:
            return (False, True), (replace(items[0], text=head), replace(items[0], text=tail))
    held_out = hold_out([_hash(item) for item in items], [_length(item) for item in items], config.split)
    if held_out.note:
        findings.notes.append(held_out.note)
    return held_out.flags.tolist(), items


def _problem(findings: Findings, kind: str, item: Item, reason: str) -> None:
    file, _, line = item.id.rpartition(":")
    findings.problem(kind, file, int(line.partition(".")[0]), reason)


def _hash(item: Item) -> int:
    return content_hash(item.text if isinstance(item, Document) else json.dumps(item.messages))


def _length(item: Item) -> int:
    if isinstance(item, Document):
        return len(item.text)
    return sum(len(turn["content"]) for turn in item.messages)
