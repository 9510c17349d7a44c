"""Counts of characters and their sequences as sorted tables: keys, and how often each was seen."""

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
Counts = NDArray[np.int64]


def codes(text: str) -> NDArray[np.int64]:
    """Code points of a text."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.int64)


def summed(keys: Keys, counts: Counts) -> tuple[Keys, Counts]:
    """Distinct keys, sorted, each with the sum of its counts."""
    together, inverse = np.unique(keys, return_inverse=True)
    totals = np.bincount(inverse, weights=counts, minlength=len(together))
    return together, totals.astype(np.int64)


def merged(keys: Keys, counts: Counts, more: Keys, more_counts: Counts) -> tuple[Keys, Counts]:
    """Two tables as one."""
    if not len(keys):
        return more, more_counts
    return summed(np.concatenate([keys, more]), np.concatenate([counts, more_counts]))


def looked_up(keys: Keys, counts: Counts, wanted: Keys) -> Counts:
    """Counts of the wanted keys (n,), 0 where there is none; the table holds one at least."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, counts[place], 0)


def discount(counts: Counts) -> float:
    """Ney's estimate n1 / (n1 + 2 n2), kept off 0 and 1 for tables without rare or without common entries."""
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    return min(max(once / max(1, once + 2 * twice), 0.05), 0.95)
