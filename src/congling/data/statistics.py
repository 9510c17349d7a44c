"""What a corpus is made of, and the reference lines a language model's loss is read against.

All reference lines are cross-entropies of the validation text, in bits per character, under models fitted
to the training text alone. The end of a document is one more symbol to predict; denominators count
characters only.

uniform   every known symbol is equally likely
unigram   characters by their frequency
bigram    interpolated absolute discounting (Ney, Essen & Kneser 1994): what is taken off every pair goes
          to the unigram; the discount n1 / (n1 + 2 n2) follows from the counts, no held-out text is used

Every distribution sums to 1 over all of Unicode: the discount of the unigram model (and one symbol's
share of the uniform one) is spread evenly over all code points, so that a character never seen costs
about 20 bits more.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from congling.data.counts import Counts, Keys, codes, discount, looked_up, merged

END = 0x110000  # the end of a document, beside the code points 0 … 0x10FFFF
SYMBOLS = END + 1
_SHIFT = np.uint64(21)  # 2**21 > SYMBOLS
_LARGEST_PENDING = 1 << 21  # characters gathered before pairs are counted together
LARGEST_TABLE = 6_000_000  # distinct pairs held; 16 bytes each


class CharacterCounts:
    """Counts of characters and of pairs of neighbours, gathered by document within bounded memory."""

    def __init__(self, *, pairs: bool = True) -> None:
        self.counts = np.zeros(SYMBOLS, np.int64)
        self.bytes = 0
        self.pair_characters = 0
        """Characters whose pairs were counted; stops growing when the table is full."""
        self._pairs = pairs
        self._pending: list[NDArray[np.int64]] = []
        self._pending_size = 0
        self._keys, self._values = np.empty(0, np.uint64), np.empty(0, np.int64)

    @property
    def characters(self) -> int:
        """Characters of all documents, without their ends."""
        return int(self.counts[:END].sum()) + sum(len(part) - 1 for part in self._pending)

    def add(self, text: str) -> None:
        """Count one document and its end."""
        self.bytes += len(text.encode("utf-8", "surrogatepass"))
        self._pending.append(np.append(codes(text), END))
        self._pending_size += len(text) + 1
        if self._pending_size >= _LARGEST_PENDING:
            self.settle()

    def settle(self) -> None:
        """Move what is pending into the tables; call before reading them."""
        if not self._pending:
            return
        symbols = np.concatenate(self._pending)
        self._pending, self._pending_size = [], 0
        np.add(self.counts, np.bincount(symbols, minlength=SYMBOLS), out=self.counts)
        if self._pairs and len(self._keys) < LARGEST_TABLE:
            keys, values = np.unique(_pairs(symbols), return_counts=True)
            self._keys, self._values = merged(self._keys, self._values, keys, values)
            self.pair_characters += int((symbols != END).sum())

    def pairs(self) -> tuple[Keys, Counts]:
        """Sorted keys (first symbol shifted by 21 bits, second symbol) and their counts."""
        self.settle()
        return self._keys, self._values


def _pairs(symbols: NDArray[np.int64]) -> Keys:
    """Pair keys of concatenated documents; the first character of each follows ``END``."""
    before = np.concatenate([np.array([END]), symbols[:-1]]).astype(np.uint64)
    return (before << _SHIFT) | symbols.astype(np.uint64)


@dataclass(frozen=True, slots=True)
class ReferenceLines:
    """Bits per character of the validation text under the simplest models of the training text."""

    uniform: float
    unigram: float
    bigram: float
    characters: int
    """Of the validation text."""
    unseen: float
    """Share of the validation characters that never occur in the training text."""
    bigram_characters: int
    """Training characters behind the bigram line: all of them, unless the table of pairs was full before."""
    unit: str = "bits/character"

    def as_json(self) -> dict[str, float | int | str]:
        """The values as plain JSON."""
        return asdict(self)


def reference_lines(train: CharacterCounts, validation: Iterable[str]) -> ReferenceLines | None:
    """Measure validation texts with models of the training counts; ``None`` when either side is empty."""
    if not train.characters:
        return None
    model = BigramModel(train)
    known = train.counts > 0
    uniform_bits = np.log2(known.sum() + 1)
    bits = np.zeros(3)
    characters = unseen = 0
    for text in validation:
        symbols = np.append(codes(text), END)
        strange = int((~known[symbols]).sum())
        bits[0] += len(symbols) * uniform_bits + strange * np.log2(SYMBOLS)
        unigram, bigram = model.bits(symbols)
        bits[1:] += unigram, bigram
        characters += len(text)
        unseen += strange
    if not characters:
        return None
    values = [round(float(value), 4) for value in bits / characters]
    return ReferenceLines(
        values[0], values[1], values[2], characters, round(unseen / characters, 6), train.pair_characters
    )


class BigramModel:
    """P(c | p) = max(n(p,c) - d, 0) / n(p) + d · types(p) / n(p) · P(c), and P(c) likewise over a uniform."""

    def __init__(self, train: CharacterCounts) -> None:
        train.settle()
        total, kinds = train.counts.sum(), int((train.counts > 0).sum())
        taken = discount(train.counts[train.counts > 0])
        self._unigram = np.maximum(train.counts - taken, 0) / total + taken * kinds / total / SYMBOLS
        self._keys, self._values = train.pairs()
        self._pair_discount = discount(self._values)
        before = (self._keys >> _SHIFT).astype(np.int64)
        self._contexts = np.bincount(before, weights=self._values, minlength=SYMBOLS)
        self._types = np.bincount(before, minlength=SYMBOLS)

    def bits(self, symbols: NDArray[np.int64]) -> tuple[float, float]:
        """Code lengths of one document (ending in ``END``) under the unigram and the bigram model."""
        unigram, bigram = self.probabilities(symbols)
        return float(-np.log2(unigram).sum()), float(-np.log2(bigram).sum())

    def probabilities(self, symbols: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of each symbol of a document, alone and after the one before it."""
        unigram = self._unigram[symbols]
        keys = _pairs(symbols)
        counts = looked_up(self._keys, self._values, keys)
        before = (keys >> _SHIFT).astype(np.int64)
        seen = self._contexts[before]
        context = np.maximum(seen, 1)
        left = np.where(seen > 0, self._pair_discount * self._types[before] / context, 1.0)
        return unigram, np.maximum(counts - self._pair_discount, 0) / context + left * unigram
