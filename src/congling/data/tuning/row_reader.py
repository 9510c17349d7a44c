"""Rows of all methods on their way from files to what is learnt; one path for all sorts.

::

    files ─ rows ─ cleaned ─ each once ─ held out by what they ask ─ encoded ─ training and held-out items

What a row is, and how it is encoded, comes from the method.
"""

import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from congling.core.errors import UserError
from congling.core.progress import track
from congling.data.clean import clean
from congling.data.config import SMALL_WORLD, DataConfig
from congling.data.dedup import content_hash
from congling.data.document import Document
from congling.data.problems import Place, ReadingLog
from congling.data.sources import reading, rows
from congling.data.sources.turns import Message
from congling.data.split import cut_last_part, hold_out_together
from congling.data.tuning.chat_rows import Messages
from congling.data.tuning.row_encoder import RowEncoder
from congling.tokenizer.chat.templates import checked

QUESTIONS = 3
"""Held-out questions that are kept as they are."""
_IGNORED = str.maketrans("", "", "，。、；：“”‘’「」『』《》〈〉【】…·—～,!?;:\"'`¿¡")


class Row(Protocol):
    """What all sorts of rows have."""

    @property
    def place(self) -> Place:
        """Where it stands."""
        ...

    @property
    def prompt(self) -> Messages:
        """The turns before the answer."""
        ...

    @property
    def answers(self) -> Messages:
        """The answers, or none."""
        ...

    def cleaned(self, clean: Callable[[Messages], Messages]) -> "Row":
        """The same with clean texts."""
        ...


Item = TypeVar("Item")


@dataclass(frozen=True)
class SplitRows(Generic[Item]):
    """What there is to learn from, and to measure with."""

    train: Sequence[Item]
    validation: Sequence[Item]
    held_out: Sequence[Any]
    """The rows and texts behind :attr:`validation`."""
    rows: int
    """That were read, with those held out."""
    texts: int
    """Plain texts beside them."""
    findings: ReadingLog

    @property
    def questions(self) -> Sequence[Messages]:
        """Held-out conversations without an answer, the first few: what to ask while training."""
        return [row.prompt for row in self.held_out if not isinstance(row, Document)][:QUESTIONS]


def read_rows(config: DataConfig, findings: ReadingLog, take: rows.Take) -> Iterator[Any]:
    """Rows and texts of the files, cleaned, each once; faults go to the findings.

    Raises:
        UserError: a file cannot be read.
    """
    if SMALL_WORLD in config.sources:
        raise UserError(
            "the small world makes texts, no rows to answer",
            value=SMALL_WORLD,
            hint="make rows of it first: congling data rows",
        )
    seen: set[int] = set()
    for row in reading.read(config.sources, config, findings, take):
        found = _cleaned(row, config)
        _look_for_marks(found, findings)
        key = content_hash(_content(found))
        if key in seen:
            findings.problem("copy", *place_of(found), "equal to an earlier one")
        elif not isinstance(found, Document) or found.text:
            seen.add(key)
            yield found


def _cleaned(row: Any, config: DataConfig) -> Any:
    """A row with its texts cleaned, as all that is learnt from is."""

    def texts(messages: Messages) -> Messages:
        return tuple(
            {
                key: clean(value, config)[0] if key in ("content", "reasoning_content") else value
                for key, value in turn.items()
            }
            for turn in messages
        )

    if isinstance(row, Document):
        return Document(clean(row.text, config)[0], row.id, row.meta, row.place)
    return row.cleaned(texts)


def _look_for_marks(row: Any, findings: ReadingLog) -> None:
    if not isinstance(row, Document):  # those of texts are counted where they are divided
        for turn in (*row.prompt, *row.answers):
            findings.foreign_tokens.look(turn["content"], str(row.place), turn=True)


def _content(row: Any) -> str:
    """All that a row says, as one text: rows are copies where it is equal."""
    if isinstance(row, Document):
        return row.text
    return json.dumps([row.prompt, row.answers, getattr(row, "answer", None), getattr(row, "good", None)])


def place_of(row: Any) -> Place:
    """Where a row or a text stands."""
    return row.place if row.place is not None else Place(row.id, None)


def question_key(messages: Sequence[Message]) -> str:
    """What a conversation asks first, without white space and punctuation.

    Rows with the same are held out together. The first question decides, since the beginning of a
    conversation may be a row of its own; not the system turn, under which the same may be asked.

    >>> question_key([{"role": "user", "content": "天空 是什么颜色？"}])
    '天空是什么颜色'
    """
    first = next((turn["content"] for turn in messages if turn["role"] in ("user", "tool")), "")
    text = unicodedata.normalize("NFKC", first).casefold()
    plain = "".join(text.translate(_IGNORED).split()).rstrip(".")
    return plain or "".join(text.split())


def split_rows(
    rows: Iterable[Any], encoder: RowEncoder, encode: Callable[[Any], Iterable[Item]], config: DataConfig
) -> SplitRows[Item]:
    """Hold some rows and texts out, and encode all.

    Args:
        rows: as they are read; what is wrong with them goes to the findings of ``encoder``.
        encoder: of these rows.
        encode: what it makes of a row: one of its methods.
        config: says how many are held out.

    Raises:
        UserError: nothing is left to learn from, or nothing can end an answer under the template.
    """
    findings, items = encoder.findings, list(rows)
    count = sum(not isinstance(item, Document) for item in items)
    if count:
        findings.notes += checked(encoder.tokenizer).notes
    flags, items = _divided(items, config, findings)
    parts: dict[bool, list[Item]] = {False: [], True: []}
    held_out: list[Any] = []
    for item, flag in track(list(zip(items, flags, strict=True)), "encoding", total=len(items)):
        found = list(encode(item))
        parts[flag] += found
        if found and flag:
            held_out.append(item)
    if not parts[False]:
        raise nothing_to_learn(config, findings)
    findings.notes += encoder.notes
    return SplitRows(parts[False], parts[True], held_out, count, len(items) - count, findings)


def _divided(
    items: list[Any], config: DataConfig, findings: ReadingLog
) -> tuple[Sequence[bool], Sequence[Any]]:
    """Which items are held out: rows with all others that ask the same, texts each for itself.

    Of a single text its last part is.
    """
    if len(items) == 1 and isinstance(items[0], Document):
        head, tail = cut_last_part(items[0].text, config.split)
        if tail:
            return (False, True), (replace(items[0], text=head), replace(items[0], text=tail))
    keys = [item.text if isinstance(item, Document) else question_key(item.prompt) for item in items]
    lengths = [
        len(item.text)
        if isinstance(item, Document)
        else sum(len(turn["content"]) for turn in (*item.prompt, *item.answers))
        for item in items
    ]
    found = hold_out_together([content_hash(key) for key in keys], lengths, config.split)
    if found.note:
        findings.notes.append(found.note)
    return found.flags.tolist(), items


def nothing_to_learn(config: DataConfig, findings: ReadingLog) -> UserError:
    """The error of files that hold no row one can learn from, with what they hold instead."""
    why = findings.most()
    fields = "; ".join(findings.unread.sentences()[:2])
    found = "; ".join(part for part in (why, fields) if part)
    return UserError(
        "there is nothing to learn in this data",
        value=" ".join(config.sources),
        hint=f"found: {found}" if found else "give rows with answers, or texts",
    )
