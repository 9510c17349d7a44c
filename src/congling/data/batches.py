"""Batches of token windows: the only place that shuffles, and a pure function of (step, rank, world)."""

# B rows of a micro-batch, T context (targets a row)

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from congling.core.errors import UserError
from congling.data.packing import Epoch, epoch_layout, gather, restarts, windows_per_epoch
from congling.data.position_sampling import PositionSampling
from congling.data.token_split import TokenSplit
from congling.data.token_splitting import split_tokens

Batches = Callable[[int, int, int], "Sequence[Batch]"]
"""(step, rank, world) to this rank's micro-batches of the step. A pure function (rollouts, which also depend
on the weights, aside): to resume is to know the step."""
_SEGMENTATION, _NOISE = 0x7365, 0x6E6F  # separate these uses of a seed from shuffling


@dataclass(frozen=True)
class Batch:
    """One micro-batch; numpy until a backend places it on a device."""

    tokens: np.ndarray
    """(B, T) int64 inputs."""
    targets: np.ndarray
    """(B, T) int64, the token after each input."""
    weights: np.ndarray | None = None
    """(B, T) float32, how much each target counts; None means one each."""
    positions: np.ndarray | None = None
    """(B or 1, T) int64, restarting at each document; None means 0 … T-1."""
    documents: np.ndarray | None = None
    """(B, T) int64, equal within a document; attention stays inside. None means one document a row."""
    count: float = 0.0
    """Sum of the weights: what a summed loss is divided by, once, over the whole step."""
    uncounted: Any = None
    """(B, T) bool: places that a mixture's routers need not balance, such as padding; None means none."""

    @property
    def balanced(self) -> int:
        """Places that routers do balance."""
        return self.tokens.size - (0 if self.uncounted is None else int(self.uncounted.sum()))


def shard_rows(step: int, rows: int, accumulation: int, rank: int, world: int) -> list[np.ndarray]:
    """Places in the global order of rows that one rank takes in a step, by micro-batch.

    A step takes ``rows * accumulation`` rows, whatever the number of ranks; see :class:`CorpusBatches`.

    Raises:
        UserError: a step has too few rows for this number of ranks.
    """
    total = rows * accumulation
    parts = -(-total // (world * rows))  # the same for all ranks, or gradient exchange would hang
    if total // world < parts:
        raise UserError(
            "the rows of a step cannot be shared out",
            value=f"{total} rows, {world} processes",
            hint="make rows * accumulation a multiple of the number of processes",
        )
    mine = np.array_split(np.arange(total), world)[rank]
    return [step * total + part for part in np.array_split(mine, parts)]


class CorpusBatches:
    """Training batches over one split, without end: epoch after epoch, each in its own order.

    A step takes the next ``rows * accumulation`` windows of the global order, whatever the number of ranks,
    and deals them out: with ``accumulation`` divisible by ``world`` every rank gets whole micro-batches of
    ``rows`` rows, otherwise equally many, slightly smaller ones.

    Args:
        split: the tokens.
        context: T, tokens predicted a row.
        rows: B, rows of a micro-batch.
        accumulation: micro-batches of a step, over all ranks together.
        seed: of all shuffling.
        document_mask: give positions and document numbers, so that attention stays inside a document.
        split_pieces: probability with which a piece falls apart into its ``parts``, anew in every epoch. The
            text is then longer than the file, and an epoch leaves out as many windows, others each time.
        parts: (V, 2), needed for ``split_pieces``.
        noise: probability with which an input token, never a target, is replaced by one drawn from the text:
            what smoothing by lower orders is to an n-gram model (Xie et al. 2017).
        sampling: draws other positions than those that tokens have in their row.

    Raises:
        UserError: the split is empty.
    """

    def __init__(
        self,
        split: TokenSplit,
        *,
        context: int,
        rows: int,
        accumulation: int = 1,
        seed: int = 0,
        document_mask: bool = False,
        split_pieces: float = 0.0,
        parts: np.ndarray | None = None,
        noise: float = 0.0,
        sampling: PositionSampling | None = None,
    ) -> None:
        if not len(split.tokens):
            raise UserError("this split of the shards holds no tokens")
        if min(context, rows, accumulation) < 1:
            raise ValueError("context, rows and accumulation are at least 1")
        self.split, self.context, self.rows, self.accumulation = split, context, rows, accumulation
        self.seed, self.document_mask = seed, document_mask
        self.windows = windows_per_epoch(len(split.tokens), context)
        self.split_pieces, self.parts, self.noise = split_pieces, parts, noise
        self.sampling = sampling
        self._epochs: OrderedDict[int, tuple[TokenSplit, Epoch]] = OrderedDict()

    @property
    def rows_per_step(self) -> int:
        """Windows a step takes, over all ranks."""
        return self.rows * self.accumulation

    @property
    def tokens_per_step(self) -> int:
        """Targets of a step, over all ranks."""
        return self.rows_per_step * self.context

    @property
    def steps_per_epoch(self) -> float:
        """Steps one pass over the split takes; below 1 when a step is larger than the corpus."""
        return self.windows / self.rows_per_step

    def __call__(self, step: int, rank: int = 0, world: int = 1) -> list[Batch]:
        """Micro-batches of one rank for one step; equally many on every rank.

        Raises:
            UserError: a step has too few rows for this number of ranks.
        """
        return [self._batch(rows) for rows in shard_rows(step, self.rows, self.accumulation, rank, world)]

    def _batch(self, rows: np.ndarray) -> Batch:
        """Rows by their place in the global order, which runs through the epochs; (B,) to one batch."""
        window = np.empty((len(rows), self.context + 1), np.int64)
        begins = np.empty_like(window)
        epochs, within = np.divmod(rows, self.windows)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            text, layout = self._epoch(int(epoch))
            places, begins[chosen] = gather(layout, text.ends, within[chosen], self.context)
            window[chosen] = text.tokens[places]
        positions, documents = restarts(begins[:, 1:]) if self.document_mask else (None, None)
        if self.sampling is not None:
            positions = self.sampling(rows, self.rows_per_step, self.context, positions)
        inputs = self._noisy(window[:, :-1], rows) if self.noise else window[:, :-1]
        return Batch(inputs, window[:, 1:], None, positions, documents, float(window[:, 1:].size))

    def _noisy(self, inputs: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Put other tokens of the text in some places, (B, T) to (B, T); ends of documents stay."""
        noisy = inputs.copy()
        for row, place in zip(noisy, rows.tolist(), strict=True):  # by row: the same whatever the world size
            random = np.random.default_rng([_NOISE, self.seed, place])
            other = self.split.tokens[random.integers(len(self.split.tokens), size=len(row))]
            chosen = (
                (random.random(len(row)) < self.noise)
                & (row != self.split.eos_id)
                & (other != self.split.eos_id)
            )
            row[chosen] = other[chosen]
        return noisy

    def _epoch(self, epoch: int) -> tuple[TokenSplit, Epoch]:
        """Text and layout of an epoch; two are kept, for the batch that lies across the end of one."""
        if epoch not in self._epochs:
            text = self.split
            if self.split_pieces and self.parts is not None:
                random = np.random.default_rng([_SEGMENTATION, self.seed, epoch])
                text = split_tokens(text, self.parts, self.split_pieces, random)
            self._epochs[epoch] = (
                text,
                epoch_layout(text.ends, context=self.context, seed=self.seed, epoch=epoch),
            )
            if len(self._epochs) > 2:
                self._epochs.popitem(last=False)
        return self._epochs[epoch]
