"""Examples with a loss mask as batches: several short ones are packed into a sequence with a mask.

::

    examples, longest first     ▇▇▇▇▇▇▇  ▇▇▇▇  ▇▇▇  ▇▇  ▇
    each into the fullest row   |▇▇▇▇▇▇▇|  |▇▇▇▇ ▇▇▇|  |▇▇ ▇ ·····|   the order of rows is new each pass

Which rows there are is decided once, so that a pass always has equally many; a row holds whole examples only.
"""

# B rows of a micro-batch, T tokens of a row (at most the context), N ids of an example

import bisect
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from congling.data.batches import Batch, shard_rows
from congling.data.config import LossReduction
from congling.data.position_sampling import PositionSampling
from congling.tokenizer.base import Tokenizer

_ORDER = 0x6578  # separates this use of a seed from all others
_WIDTH = 64  # rows end at a multiple of this: few different shapes, little padding


@dataclass(frozen=True, slots=True)
class Example:
    """A text to learn from."""

    input_ids: np.ndarray
    """(N,) int32; each but the last is an input, each but the first a target."""
    loss_mask: np.ndarray
    """(N,) bool: which are learnt as targets."""
    characters: int
    """Of the text behind the learnt ids."""
    id: str
    """Where it came from."""

    @property
    def length(self) -> int:
        """Places it takes in a row."""
        return len(self.input_ids) - 1

    @property
    def targets(self) -> int:
        """Ids that are learnt."""
        return int(self.loss_mask[1:].sum())

    @property
    def answers(self) -> int:
        """Stretches of learnt ids: the answers of a conversation, or 1 for a text."""
        return int(np.diff(self.loss_mask[1:], prepend=False).sum() + self.loss_mask[-1]) // 2

    def weights(self, answer: float | None = None) -> np.ndarray:
        """(N − 1,) float32 of the targets: 1 where one is learnt; or each answer has ``answer`` in all."""
        mask = self.loss_mask[1:]
        if answer is None:
            return mask.astype(np.float32)
        number = np.cumsum(np.diff(mask, prepend=False) & mask) * mask  # 0, or which answer it belongs to
        sizes = np.bincount(number)
        return np.where(mask, answer / sizes[number], 0).astype(np.float32)


class ExampleBatches:
    """Training batches over examples, without end: pass after pass, the rows of each in an order of its own.

    Args:
        examples: none longer than ``context + 1`` ids.
        context: most tokens of a row.
        rows: B, rows of a micro-batch.
        accumulation: micro-batches of a step, over all ranks together.
        seed: of the order.
        pad: id that fills rows up.
        reduction: ``answer`` gives every answer the weight of a mean one. A step's loss is the weighted sum
            over all its rows by the sum of the weights, however rows are packed, accumulated or shared out.
        sampling: draws other positions than those that tokens have in their example.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        *,
        context: int,
        rows: int,
        accumulation: int = 1,
        seed: int = 0,
        pad: int = 0,
        reduction: LossReduction = "token",
        sampling: PositionSampling | None = None,
    ) -> None:
        self.answer = None if reduction == "token" else targets_of(examples) / answers_of(examples)
        self.examples, self.pad, self.seed = examples, pad, seed
        self.context, self.rows, self.accumulation = context, rows, accumulation
        self.sampling = sampling
        self.packed = packed([example.length for example in examples], context)

    @property
    def steps_per_epoch(self) -> float:
        """Steps one pass over all rows takes; below 1 where a step is larger than that."""
        return len(self.packed) / (self.rows * self.accumulation)

    def __call__(self, step: int, rank: int = 0, world: int = 1) -> list[Batch]:
        """Micro-batches of one rank for one step; equally many on every rank.

        Raises:
            UserError: a step has too few rows for this number of ranks.
        """
        return [self._batch(rows) for rows in shard_rows(step, self.rows, self.accumulation, rank, world)]

    def _batch(self, rows: np.ndarray) -> Batch:
        epochs, within = np.divmod(rows, len(self.packed))
        orders = {epoch: self._order(epoch) for epoch in np.unique(epochs).tolist()}
        chosen = [orders[epoch][place] for epoch, place in zip(epochs.tolist(), within, strict=True)]
        batch = collated(
            [[self.examples[i] for i in self.packed[row]] for row in chosen],
            self.context,
            self.pad,
            self.answer,
        )
        if self.sampling is None:
            return batch
        step_rows, tokens = self.rows * self.accumulation, batch.tokens.shape[1]
        return replace(batch, positions=self.sampling(rows, step_rows, tokens, batch.positions))

    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([_ORDER, self.seed, epoch]).permutation(len(self.packed))


def evaluation_batches(
    examples: Sequence[Example],
    *,
    context: int,
    rows: int,
    pad: int = 0,
    limit_targets: int | None = None,
    answer: float | None = None,
) -> Iterator[Batch]:
    """Every example exactly once, for held-out losses; with a limit some rows, spread over all of them.

    ``answer`` is the weight of each answer; None gives each learnt token one.
    """
    chosen = spread(examples, context, limit_targets)
    for first in range(0, len(chosen), rows):
        yield collated(chosen[first : first + rows], context, pad, answer)


def spread(examples: Sequence[Example], context: int, limit_targets: int | None) -> list[list[Example]]:
    """The rows of :func:`evaluation_batches`: all examples, or with a limit some of them."""
    places = packed([example.length for example in examples], context)
    targets = sum(example.targets for example in examples)
    if limit_targets is not None and limit_targets < targets:
        count = max(1, math.ceil(len(places) * limit_targets / targets))
        places = [places[i] for i in np.linspace(0, len(places) - 1, count).round().astype(int)]
    return [[examples[i] for i in row] for row in places]


def packed(lengths: Sequence[int], context: int) -> list[list[int]]:
    """Share out examples over rows of ``context`` places: longest first, each into the fullest row that fits.

    (best-fit decreasing: at most 11/9 of the fewest rows possible, and rows that are nearly full.)
    """
    rows: list[list[int]] = []
    free: list[tuple[int, int]] = []  # (places left, row), sorted
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        place = bisect.bisect_left(free, (lengths[index], -1))
        left, row = free.pop(place) if place < len(free) else (context, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(index)
        if left - lengths[index] > 0:
            bisect.insort(free, (left - lengths[index], row))
    return rows


def collated(rows: Sequence[Sequence[Example]], context: int, pad: int, answer: float | None = None) -> Batch:
    """One batch of rows of examples: (B, T), T as long as the longest row needs; ``answer`` as above."""
    longest = max(sum(example.length for example in row) for row in rows)
    width = min(context, -(-longest // _WIDTH) * _WIDTH)
    tokens = np.full((len(rows), width), pad, np.int64)
    targets, weights = tokens.copy(), np.zeros(tokens.shape, np.float32)
    positions, documents = np.zeros_like(tokens), np.zeros_like(tokens)
    padding = np.zeros(tokens.shape, bool)
    for i, row in enumerate(rows):
        start = 0
        for number, example in enumerate(row):
            part = slice(start, start := start + example.length)
            tokens[i, part], targets[i, part] = example.input_ids[:-1], example.input_ids[1:]
            weights[i, part] = example.weights(answer)
            positions[i, part], documents[i, part] = np.arange(example.length), number
        positions[i, start:], documents[i, start:] = np.arange(width - start), len(row)
        padding[i, start:] = True
    shared = any(len(row) > 1 for row in rows)
    count = float(weights.sum())
    # With one example a row, nothing behind it is seen by it: the quicker causal mask alone is enough.
    return Batch(
        tokens,
        targets,
        weights,
        positions if shared else None,
        documents if shared else None,
        count,
        padding if padding.any() else None,
    )


def targets_of(examples: Iterable[Example]) -> int:
    """Ids that are learnt in all examples together."""
    return sum(example.targets for example in examples)


def tokens_per_character(examples: Sequence[Example]) -> float:
    """Of what is learnt: turns nats per token into bits per character."""
    return targets_of(examples) / max(1, sum(example.characters for example in examples))


def characters_of(tokenizer: Tokenizer) -> np.ndarray:
    """(V,) int64: characters that begin in each piece; 0 for special ids."""
    special = set(tokenizer.special.values())
    pieces = (b"" if i in special else tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size))
    return np.array([sum(byte & 0xC0 != 0x80 for byte in piece) for piece in pieces], np.int64)


def answers_of(examples: Iterable[Example]) -> int:
    """Answers in all examples together."""
    return sum(example.answers for example in examples)
