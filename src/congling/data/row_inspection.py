"""A look at rows before a model is tuned on them: as the template writes them, what is learnt, how long."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice

import numpy as np

from congling.core.artifact import exists
from congling.core.errors import UserError
from congling.data.chats import Encoder, read_items
from congling.data.config import SMALL_WORLD, DataConfig
from congling.data.document import Document
from congling.data.examples import Example
from congling.data.findings import Findings
from congling.data.sources.chat_rows import Talk
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.templates import Fit, checked, name_of

ROWS = 20_000
"""Rows that are looked at."""
FIRST = 3
_ENDLESS = 2**31  # a context no row reaches
_PERCENTS = (50, 90, 95, 99)


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a rendered row."""

    text: str
    learnt: bool
    special: bool
    """Whether it is one special token."""


@dataclass(frozen=True, slots=True)
class ShownRow:
    """A row as it is learnt."""

    id: str
    pieces: Sequence[Piece]
    tokens: int
    learnt: int
    meta: Mapping[str, str]


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
    rows: int
    """Conversations that something can be learnt from."""
    texts: int
    tokens: int
    """Of all examples, as they would be trained on."""
    learnt: int
    lengths: Lengths
    domains: Mapping[str, int]
    """Conversations by what they are about, the most frequent first."""
    whole: bool
    """Whether all rows were looked at."""
    findings: Findings


def inspect(config: DataConfig, tokenizer: Tokenizer, context: int | None = None) -> RowInspection:
    """Render rows as for training, and count; at most :data:`ROWS` of them are read.

    Raises:
        UserError: a file cannot be read, the template does not work, or there is nothing to learn.
    """
    findings = Findings()
    fit = checked(tokenizer)
    encode = Encoder(tokenizer, context or _ENDLESS, findings)
    first: list[ShownRow] = []
    domains: Counter[str] = Counter()
    kept = {Talk: 0, Document: 0}
    tokens = learnt = seen = 0
    for item in islice(read_items(config, findings), ROWS + 1):
        seen += 1
        if seen > ROWS:
            break
        examples = encode(item)
        kept[type(item)] += bool(examples)
        for example in examples:
            tokens, learnt = tokens + example.inputs, learnt + example.targets
        if examples and isinstance(item, Talk):
            domains[item.domain] += 1
        if examples and len(first) < FIRST:
            first.append(_shown(examples[0], tokenizer, item.meta if isinstance(item, Talk) else {}))
    if not first:
        why = ", ".join(f"{count} × {kind}" for kind, count in findings.counts.most_common(4))
        raise UserError("there is nothing to learn in this data", value=" ".join(config.sources),
                        hint=f"found: {why}" if why else "give rows with answers, or texts")  # fmt: skip
    findings.notes += fit.notes
    lengths = Lengths.of([length - 1 for length in encode.lengths], context)
    return RowInspection(
        first, name_of(tokenizer.chat_template), fit, context, kept[Talk], kept[Document], tokens, learnt,
        lengths, dict(domains.most_common()), seen <= ROWS, findings,
    )  # fmt: skip


def first_conversations(config: DataConfig) -> Sequence[Talk]:
    """The first conversations of the sources, where that is what they hold first; else none.

    Raises:
        UserError: a file cannot be read.
    """
    if any(source == SMALL_WORLD or exists(source) for source in config.sources):
        return ()
    found = list(islice(read_items(config, Findings()), FIRST))
    return tuple(item for item in found if isinstance(item, Talk))


def _shown(example: Example, tokenizer: Tokenizer, meta: Mapping[str, str]) -> ShownRow:
    special = set(tokenizer.special.values())
    marked = zip(example.ids.tolist(), example.learnt.tolist(), strict=True)
    # special tokens stay apart from each other: they are numbered so that no two are one group
    keyed = [(index, taken, place if index in special else -1) for place, (index, taken) in enumerate(marked)]
    pieces = [
        Piece(tokenizer.decode([index for index, _, _ in group]), taken, place >= 0)
        for (taken, place), group in (
            (key, list(found)) for key, found in groupby(keyed, lambda one: one[1:])
        )
    ]
    return ShownRow(example.id, pieces, example.inputs, example.targets, meta)
