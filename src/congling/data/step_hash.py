"""A hash of the rows of a step that does not depend on how they are cut and shared out.

A step's rows are a function of the step alone, on any number of processes. The hash stands beside every step
in ``metrics.jsonl``, where anybody can see it: two runs that learnt from the same rows have the same column.
"""

# B rows of a micro-batch, T tokens of a row

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from congling.data.batches import Batch

HALF = 1 << 24
"""Values of one half of a hash: sums over all rows of a step are exact in float64."""


def row_sums(micro: Sequence[Batch]) -> np.ndarray:
    """Sums over the rows (sequences, where several that belong to different rows of the data share one) of
    both halves of the hash of their tokens: (2,) float64, to be added up over all processes."""
    found = np.zeros(2, np.int64)
    for batch in micro:
        for tokens in _texts(batch):
            digest = hashlib.blake2b(tokens.astype("<i4").tobytes(), digest_size=6).digest()
            found += int.from_bytes(digest[:3], "big"), int.from_bytes(digest[3:], "big")
    return found.astype(np.float64)


def _texts(batch: Batch) -> list[np.ndarray]:
    """Tokens of each row without padding, or of each sequence."""
    tokens, owner = batch.tokens, getattr(batch, "owner", None)
    counted = np.ones(tokens.shape, bool) if batch.uncounted is None else ~np.asarray(batch.uncounted)
    if owner is None:
        return [row[kept] for row, kept in zip(tokens, counted, strict=True)]
    numbers, flat = owner[counted], tokens[counted]  # those of a sequence stand together, in order
    return [] if not len(flat) else np.split(flat, np.flatnonzero(np.diff(numbers)) + 1)


def joined(sums: Any) -> Any:
    """The hash of a step, of 48 bits as one number, from the sums over all its rows."""
    return sums[0] % HALF * HALF + sums[1] % HALF
