"""Batches for losses of whole answers: each token knows the number of its answer.

::

    a pair's two answers     |prompt  better|  |prompt  worse|      sequences 0 and 1
    packed into rows         |prompt  better|prompt  worse|·····|   owner  0 0 0 0 0 0 1 1 1 1 …

Both answers of a pair are in the same micro-batch; as in fine-tuning, several short ones share a row.
"""

# B rows, T tokens of a row, S sequences of a micro-batch, P pairs

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from congling.data.batches import Batch, shard_rows
from congling.data.tuning.examples import Example, collated, packed

_ORDER = 0x7072  # separates this use of a seed from all others


@dataclass(frozen=True)
class SequenceBatch(Batch):
    """Rows of sequences, of which the targets with a weight are scored."""

    owner: Any = None
    """(B, T) int64: the number of the sequence each place belongs to."""
    sequences: int = 0
    """S, sequences in this batch."""


@dataclass(frozen=True)
class PairBatch(SequenceBatch):
    """Sequences 2i and 2i + 1 are the better and the worse answer of pair i; ``count`` is P."""

    reference: Any = None
    """(2P,) float32 log-probabilities for the base; None where no loss refers to it."""


@dataclass(frozen=True)
class RatedBatch(SequenceBatch):
    """Answers, then as many answers that belong to other prompts; ``count`` is that of the former."""

    reference: Any = None
    """(2·count,) float32 log-probabilities for the base."""
    good: Any = None
    """(count,) booleans."""


@dataclass(frozen=True, slots=True)
class Rated:
    """An answer that is good or bad."""

    example: Example
    good: bool


Pair = tuple[Example, Example]
"""The better and the worse answer to one prompt."""


def batched(kind: type[Any], examples: Sequence[Example], context: int, pad: int, **more: Any) -> Any:
    """Pack sequences into rows of at most ``context`` places, numbered; ``more`` fills further fields."""
    width = max(example.length for example in examples)
    rows = packed([example.length for example in examples], width)
    batch = collated([[examples[i] for i in row] for row in rows], context, pad)
    owner = np.zeros(batch.tokens.shape, np.int64)
    for place, row in enumerate(rows):
        start = 0
        for index in row:
            owner[place, start : (start := start + examples[index].length)] = index
    known = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return kind(**known | {"owner": owner, "sequences": len(examples)} | more)


class PairBatches:
    """Training batches over pairs, without end: pass after pass, each in an order of its own.

    A micro-batch holds ``rows`` pairs. Pairs of like length stand together within a stretch of
    some steps of the order, so that little of a row is padding.

    Args:
        pairs: the pairs.
        context: most tokens of a row.
        rows: pairs of a micro-batch.
        accumulation: micro-batches of a step, over all ranks together.
        seed: of the order.
        pad: id that fills rows up.
        reference: (2 · pairs,) log-probabilities for the base, in the order of the pairs; or None.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        *,
        context: int,
        rows: int,
        accumulation: int,
        seed: int,
        pad: int,
        reference: np.ndarray | None,
    ) -> None:
        self.pairs, self.pad, self.context, self.reference = pairs, pad, context, reference
        self.rows, self.accumulation = rows, accumulation
        lengths = [max(example.length for example in pair) for pair in pairs]
        self._order = Order(lengths, rows * accumulation, seed)

    def __call__(self, step: int, rank: int = 0, world: int = 1) -> list[PairBatch]:
        """Micro-batches of one rank for one step; equally many on every rank.

        Raises:
            UserError: a step has too few rows for this number of ranks.
        """
        dealt_rows = shard_rows(step, self.rows, self.accumulation, rank, world)
        return [self.batch(self._order(rows)) for rows in dealt_rows]

    def batch(self, chosen: Sequence[int]) -> PairBatch:
        """The pairs with these numbers as one micro-batch."""
        examples = [example for i in chosen for example in self.pairs[i]]
        reference = None
        if self.reference is not None:
            reference = np.concatenate([self.reference[2 * i : 2 * i + 2] for i in chosen])
        return batched(
            PairBatch, examples, self.context, self.pad, count=float(len(chosen)), reference=reference
        )


class RatedBatches:
    """The same over answers that are good or bad, each step with as many mismatched ones behind them.

    Args:
        rated: the answers.
        others: for each, the answer of another row to this row's prompt.
        context: most tokens of a row.
        rows: answers of a micro-batch.
        accumulation: micro-batches of a step, over all ranks together.
        seed: of the order.
        pad: id that fills rows up.
        reference: (2 · rated,): of the answers, then of the others.
    """

    def __init__(
        self,
        rated: Sequence[Rated],
        others: Sequence[Example],
        *,
        context: int,
        rows: int,
        accumulation: int,
        seed: int,
        pad: int,
        reference: np.ndarray,
    ) -> None:
        self.rated, self.others, self.pad, self.context = rated, others, pad, context
        self.rows, self.accumulation, self.reference = rows, accumulation, reference
        self._order = Order([one.example.length for one in rated], rows * accumulation, seed)

    def __call__(self, step: int, rank: int = 0, world: int = 1) -> list[RatedBatch]:
        """Micro-batches of one rank for one step.

        Raises:
            UserError: a step has too few rows for this number of ranks.
        """
        dealt_rows = shard_rows(step, self.rows, self.accumulation, rank, world)
        return [self.batch(self._order(rows)) for rows in dealt_rows]

    def batch(self, chosen: Sequence[int]) -> RatedBatch:
        """The answers with these numbers as one micro-batch."""
        places = np.asarray(chosen)
        examples = [self.rated[i].example for i in chosen] + [self.others[i] for i in chosen]
        reference = np.concatenate([self.reference[places], self.reference[len(self.rated) + places]])
        good = np.array([self.rated[i].good for i in chosen])
        batch = batched(
            RatedBatch,
            examples,
            self.context,
            self.pad,
            count=float(len(chosen)),
            reference=reference,
            good=good,
        )
        measuring = batch.owner >= len(chosen)  # the others only say how far the model has moved
        padding = False if batch.uncounted is None else batch.uncounted
        return replace(batch, uncounted=measuring | padding)


class Order:
    """The order of rows in pass after pass: random, but rows of like length near each other."""

    def __init__(self, lengths: Sequence[int], step: int, seed: int) -> None:
        self.lengths, self.step, self.seed = np.asarray(lengths), step, seed
        self._kept: tuple[int, np.ndarray] | None = None

    def __call__(self, places: np.ndarray) -> list[int]:
        """Numbers of the rows at these places of the endless order."""
        epochs, within = np.divmod(places, len(self.lengths))
        return [int(self._epoch(epoch)[place]) for epoch, place in zip(epochs.tolist(), within, strict=True)]

    def _epoch(self, epoch: int) -> np.ndarray:
        if self._kept is None or self._kept[0] != epoch:
            random = np.random.default_rng([_ORDER, self.seed, epoch])
            order = random.permutation(len(self.lengths))
            # Of few rows a part alone, or the same ones would meet in every pass.
            stretch = max(self.step, min(self.step * 8, len(order) // 4))
            parts = [order[start : start + stretch] for start in range(0, len(order), stretch)]
            self._kept = (epoch, np.concatenate([self._grouped(part, random) for part in parts]))
        return self._kept[1]

    def _grouped(self, part: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """A stretch by length, its steps in random order; what does not fill a step comes last."""
        part = part[np.argsort(self.lengths[part], kind="stable")]
        whole = len(part) // self.step
        steps = [part[i * self.step : (i + 1) * self.step] for i in random.permutation(whole)]
        return np.concatenate([*steps, part[whole * self.step :]])
