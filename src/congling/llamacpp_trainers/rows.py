"""Batches of training rows: a place in the shuffled samples that moves on, and that a checkpoint stores.

A row is made of one sample: its input begins with BOS, its targets with the sample's first token. Where the
sample ends early the row is filled with EOS, or with the samples that follow.
"""

# B rows, T context, N samples

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from congling.core.errors import UserError
from congling.data.batches import Batch
from congling.llamacpp_trainers.samples import Samples
from congling.llamacpp_trainers.shuffle import shuffled


@dataclass(frozen=True)
class Filling:
    """How rows are made of samples."""

    context: int
    bos: int
    eos: int
    rows: int = 8
    fill: bool = False
    """Go on with the next samples instead of EOS."""
    separate_eos: bool = False
    separate_bos: bool = True
    random_offsets: bool = False
    """Begin at a random token of the sample."""
    train_on_padding: bool = True
    """EOS after the first one counts in the loss."""


class RowSource:
    """Rows in shuffled order, epoch after epoch.

    Attributes:
        state: generator state of this epoch's shuffle, as text.
        place: samples of this epoch used so far.
        samples_seen: samples used in all runs.
        epochs: epochs finished in all runs.
    """

    def __init__(
        self,
        samples: Samples,
        filling: Filling,
        state: str,
        *,
        place: int = 0,
        samples_seen: int = 0,
        epochs: int = 0,
        vocab_size: int | None = None,
    ) -> None:
        self.samples, self.filling, self.state, self.place = samples, filling, state, place
        self.samples_seen, self.epochs = samples_seen, epochs
        self._last = (vocab_size or 2**31) - 1
        self._shuffle = shuffled(state, samples.sizes)

    def next_batch(self, reshuffled: Callable[[int], None] = lambda epochs: None) -> Batch:
        """B rows; after the last sample of an epoch the next one is shuffled, and ``reshuffled`` told."""
        how, used = self.filling, 0
        shape = how.rows, how.context
        targets, weights = np.empty(shape, np.int64), np.ones(shape, np.float32)
        for row in range(how.rows):
            used += self._fill(targets[row], weights[row], used)
        np.clip(targets, 0, self._last, out=targets)
        tokens = np.concatenate([np.full((how.rows, 1), how.bos), targets[:, :-1]], axis=1)
        self._advance(used, reshuffled)
        if how.train_on_padding or weights.all():
            return Batch(tokens, targets, count=float(targets.size))
        return Batch(tokens, targets, weights, count=float(weights.sum()))

    def _fill(self, row: np.ndarray, weights: np.ndarray, used: int) -> int:
        """Write one row's targets; returns how many samples it took."""
        how, shuffle = self.filling, self._shuffle
        index = (self.place + used) % len(self.samples)
        offset = int(shuffle.offsets[index]) if how.random_offsets else 0
        part = self.samples.sample(int(shuffle.order[index]), offset)[: how.context]
        done, taken = len(part), 1
        row[:done] = part
        while done < how.context:
            if not how.fill:
                row[done:] = how.eos
                if not how.train_on_padding:
                    weights[done + 1 :] = 0
                break
            part = np.concatenate([self._separator(), self._following(used + taken)])[: how.context - done]
            row[done : done + len(part)] = part
            done, taken = done + len(part), taken + 1
        return taken

    def _separator(self) -> np.ndarray:
        how = self.filling
        return np.array([how.eos] * how.separate_eos + [how.bos] * how.separate_bos, np.int64)

    def _following(self, used: int) -> np.ndarray:
        return self.samples.sample(int(self._shuffle.order[(self.place + used) % len(self.samples)]))

    def _advance(self, used: int, reshuffled: Callable[[int], None]) -> None:
        self.samples_seen, self.place = self.samples_seen + used, self.place + used
        if self.place < len(self.samples):
            return
        self.epochs += 1
        reshuffled(self.epochs)
        self.state, self.place = self._shuffle.following, 0
        self._shuffle = shuffled(self.state, self.samples.sizes)


def straight_rows(tokens: np.ndarray, bos: int, context: int, rows: int) -> Iterator[Batch]:
    """Rows over a text in order, each token a target once; the last row is cut short by weights of 0.

    Raises:
        UserError: there are no tokens.
    """
    if not len(tokens):
        raise UserError("the held-out text gives no tokens")
    count = -(-len(tokens) // context)
    targets = np.zeros((count, context), np.int64)
    targets.reshape(-1)[: len(tokens)] = tokens
    weights = (np.arange(count * context) < len(tokens)).astype(np.float32).reshape(count, context)
    inputs = np.concatenate([np.full((count, 1), bos), targets[:, :-1]], axis=1)
    for start in range(0, count, rows):
        part = slice(start, start + rows)
        yield Batch(inputs[part], targets[part], weights[part], count=float(weights[part].sum()))
