"""How long texts are, and how much of them stands far behind their beginning."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TextLengths:
    """Lengths in tokens, and how many texts have each.

    >>> found = TextLengths.of([100, 300, 300])
    >>> found.share_beyond(200), found.share_of(300)
    (0.2857142857142857, 0.6666666666666666)
    """

    counts: tuple[tuple[int, int], ...] = ()
    """(tokens, texts), shortest first; empty where nothing is known."""

    @classmethod
    def of(cls, lengths: Iterable[int] | np.ndarray) -> "TextLengths":
        """Of texts with these lengths."""
        given = lengths if isinstance(lengths, np.ndarray) else np.fromiter(lengths, np.int64)
        found, counts = np.unique(given, return_counts=True)
        return cls(tuple(zip(found.tolist(), counts.tolist(), strict=True)))

    @property
    def known(self) -> bool:
        """Whether there is anything to say."""
        return any(length for length, _ in self.counts)

    def share_beyond(self, length: int) -> float:
        """Share of the tokens that have ``length`` or more before them in their text."""
        tokens = sum(one * count for one, count in self.counts)
        return sum(max(0, one - length) * count for one, count in self.counts) / max(1, tokens)

    def share_of(self, length: int) -> float:
        """Share of the texts with ``length`` tokens or more."""
        texts = sum(count for _, count in self.counts)
        return sum(count for one, count in self.counts if one >= length) / max(1, texts)


UNKNOWN = TextLengths()
"""Of texts whose lengths nobody has told."""
