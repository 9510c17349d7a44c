"""A look at rows before a model is tuned on them: as the template writes them, what is learnt, how long.

Of conversations, preference pairs, rated answers and prompts: what a file holds is told by its first rows.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

import numpy as np

from congling.core.artifact import exists
from congling.data.config import SMALL_WORLD, DataConfig
from congling.data.document import Document
from congling.data.problems import ReadingLog
from congling.data.tuning.chat_rows import Conversation
from congling.data.tuning.conversations import ConversationEncoder, read_items
from congling.data.tuning.examples import Example
from congling.data.tuning.preferences import AnswerEncoder, QuestionEncoder, preference_items
from congling.data.tuning.row_encoder import RowEncoder
from congling.data.tuning.row_kinds import ROWS_OF, Sort, sorts_of
from congling.data.tuning.row_reader import nothing_to_learn
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.chat.templates import Fit, checked, name_of

ROWS = 20_000
"""Rows that are looked at."""
FIRST = 3
_ENDLESS = 2**31  # a context no row reaches
_PERCENTS = (50, 90, 95, 99)
_ENCODERS: Mapping[Sort, type[RowEncoder]] = {
    Sort.CONVERSATIONS: ConversationEncoder,
    Sort.PAIRS: AnswerEncoder,
    Sort.RATED: AnswerEncoder,
    Sort.PROMPTS: QuestionEncoder,
}


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a rendered row."""

    text: str
    in_loss: bool
    special: bool
    """Whether it is one special token."""


@dataclass(frozen=True, slots=True)
class ShownRow:
    """A row as it is learnt."""

    id: str
    pieces: Sequence[Piece]
    tokens: int
    targets: int
    meta: Mapping[str, str]
    side: str = ""
    """Of a pair ``chosen`` or ``rejected``, of a rated answer ``good`` or ``bad``."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long rows are, in tokens."""

    percentiles: Mapping[int, int]
    longest: int
    bins: Sequence[tuple[int, int]]
    """Upper end of each bin (a power of two, included), and rows in it."""
    beyond: int
    """Rows longer than the context."""

    @classmethod
    def of(cls, lengths: Sequence[int], context: int | None) -> "Lengths":
        """Sum up; ``lengths`` are inputs, one less than ids."""
        values = np.array(lengths or [0])
        percentiles = {p: int(np.percentile(values, p, method="inverted_cdf")) for p in _PERCENTS}
        ends = np.maximum(4, np.ceil(np.log2(np.maximum(values, 1)))).astype(int)
        counts = Counter(ends.tolist())
        bins = [(2**k, counts[k]) for k in range(min(counts), max(counts) + 1)]
        beyond = 0 if context is None else int((values > context).sum())
        return cls(percentiles, int(values.max()), bins, beyond)


@dataclass(frozen=True, slots=True)
class RowInspection:
    """What rows would teach."""

    first: Sequence[ShownRow]
    template: str
    fit: Fit
    context: int | None
    sort: Sort
    """What the rows are read as: what most of the first ones are."""
    sorts: Mapping[Sort, int]
    """How many of the first rows can be read as what."""
    rows: int
    """Rows that something can be learnt from."""
    texts: int
    tokens: int
    """Of all examples, as they would be trained on."""
    targets: int
    lengths: Lengths
    domains: Mapping[str, int]
    """Conversations by what they are about, the most frequent first."""
    whole: bool
    """Whether all rows were looked at."""
    findings: ReadingLog


@dataclass(frozen=True, slots=True)
class RowLook:
    """What can be seen of rows without a tokenizer."""

    first: Sequence[Any]
    sort: Sort
    sorts: Mapping[Sort, int]
    rows: int
    whole: bool
    findings: ReadingLog


def inspect(config: DataConfig, tokenizer: Tokenizer, context: int | None = None) -> RowInspection:
    """Render rows as for training, and count; at most :data:`ROWS` of them are read.

    Raises:
        UserError: a file cannot be read, the template does not work, or there is nothing to learn.
    """
    findings, sorts = ReadingLog(), sorts_of(config)
    sort = next(iter(sorts), Sort.CONVERSATIONS)
    fit = checked(tokenizer)
    encoder = _ENCODERS[sort](tokenizer, context or _ENDLESS, findings)
    whole = _ENCODERS[sort](tokenizer, _ENDLESS, ReadingLog())
    first: list[ShownRow] = []
    domains: Counter[str] = Counter()
    kept, lengths = {True: 0, False: 0}, list[int]()
    tokens = targets = seen = shown = 0
    for item in islice(_items(sort, config, findings), ROWS + 1):
        seen += 1
        if seen > ROWS:
            break
        examples, text = list(encoder.sides(item)), isinstance(item, Document)
        kept[text] += bool(examples)
        lengths += [] if text else [example.length for _, example in whole.sides(item)]
        tokens += sum(example.length for _, example in examples)
        targets += sum(example.targets for _, example in examples)
        if examples and isinstance(item, Conversation):
            domains[item.domain] += 1
        if examples and shown < FIRST:
            shown += 1
            meta = getattr(item, "meta", {}) if not text else {}
            first += [
                _shown(one, tokenizer, meta, side) for side, one in (examples[:1] if text else examples)
            ]
    if not first:
        raise nothing_to_learn(config, findings)
    findings.notes += [*fit.notes, *encoder.notes]
    return RowInspection(
        first,
        name_of(tokenizer.chat_template),
        fit,
        context,
        sort,
        sorts,
        kept[False],
        kept[True],
        tokens,
        targets,
        Lengths.of(lengths, context),
        dict(domains.most_common()),
        seen <= ROWS,
        findings,
    )


def look(config: DataConfig) -> RowLook | None:
    """The first rows of the sources as they are, and what is wrong with others; None where there are texts.

    Raises:
        UserError: a file cannot be read.
    """
    if any(source == SMALL_WORLD or exists(source) for source in config.sources):
        return None
    sorts, findings = sorts_of(config), ReadingLog()
    if not sorts:
        return None
    sort, first, count = next(iter(sorts)), [], 0
    for item in islice(_items(sort, config, findings), ROWS + 1):
        count += not isinstance(item, Document)
        if len(first) < FIRST and not isinstance(item, Document):
            first.append(item)
    return RowLook(first, sort, sorts, min(count, ROWS), count <= ROWS, findings)


def _items(sort: Sort, config: DataConfig, findings: ReadingLog) -> Iterable[Any]:
    if sort is Sort.CONVERSATIONS:
        return read_items(config, findings)
    findings.unread.rewarded = sort is Sort.PROMPTS
    return preference_items(config, findings, ROWS_OF[sort])


def _shown(example: Example, tokenizer: Tokenizer, meta: Mapping[str, str], side: str) -> ShownRow:
    special = set(tokenizer.special.values())
    marked = zip(example.input_ids.tolist(), example.loss_mask.tolist(), strict=True)
    # special tokens stay apart from each other: they are numbered so that no two are one group
    keyed = [(index, taken, place if index in special else -1) for place, (index, taken) in enumerate(marked)]
    pieces = [
        Piece(tokenizer.decode([index for index, _, _ in group]), taken, place >= 0)
        for (taken, place), group in (
            (key, list(found)) for key, found in groupby(keyed, lambda one: one[1:])
        )
    ]
    return ShownRow(example.id, pieces, example.length, example.targets, meta, side)
