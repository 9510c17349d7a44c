"""A character n-gram model with interpolated Kneser-Ney smoothing (Kneser & Ney 1995; Chen & Goodman 1999).

::

    P(c | h) = max(n(hc) - D, 0) / n(h) + D · types(h) / n(h) · P(c | h without its first character)

n(hc) counts occurrences at the highest order; below it, before how many *different* characters hc was seen.
D = n1 / (n1 + 2 n2) of each order (Ney, Essen & Kneser 1994). At the bottom every symbol is equally likely.

The most frequent characters, the end of a document and "another character" share 2**12 symbols, so that five
of them fit into one 64-bit key and tables are sorted arrays. Which other character it was is paid for by a
unigram of those seen, and 20 bits (any code point) for one never seen: all of Unicode has its share.
"""

# S symbols of a text, G distinct n-grams

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from congling.data.counts import Counts, Keys, codes, discount, looked_up, merged, summed

_BITS = 12
_SIZE = 1 << _BITS
_END, _OTHER = 0, 1
"""Symbols; those of frequent characters follow."""
ORDERS = 5
"""The highest order that fits into a key."""
LARGEST_TABLE = 6_000_000
"""Distinct n-grams of the highest order held: with the orders below about 250 MB."""
_PENDING = 1 << 20  # characters gathered before n-grams are counted together
_CODE_POINTS = 0x110000


class KneserNey:
    """The model of some training texts; texts beyond the size of the table are left out (``characters``).

    Args:
        texts: documents, streamed once; the characters are counted first from the same documents as far as
            they are held.
        order: 1 to 5.

    Raises:
        ValueError: the order is another, or there is no text.
    """

    def __init__(self, texts: Iterable[str], order: int = ORDERS, *, largest: int = LARGEST_TABLE) -> None:
        if not 1 <= order <= ORDERS:
            raise ValueError(f"an order from 1 to {ORDERS}, not {order}")
        self._take(_counted(texts, [order], largest)[order], order)

    @classmethod
    def all_orders(cls, texts: Iterable[str], *, largest: int = LARGEST_TABLE) -> Iterator["KneserNey"]:
        """The models of all orders, lowest first, from one reading of the texts.

        Raises:
            ValueError: there is no text.
        """
        counted = _counted(texts, range(1, ORDERS + 1), largest)
        for order in range(1, ORDERS + 1):
            model = cls.__new__(cls)
            model._take(counted.pop(order), order)
            yield model

    def _take(self, counted: "_Counted", order: int) -> None:
        self.order, self.characters, self._symbol = order, counted.characters, counted.symbol
        self._others = np.where(self._symbol == _OTHER, counted.seen, 0)
        self._tables = self._orders(counted.keys, counted.values)

    def bits(self, text: str) -> float:
        """What a document and its end cost, in bits."""
        points = codes(text)
        total = float(-np.log2(self.shares(self.symbol_keys(points))).sum())
        return total + self._spelled(points[self._symbol[points] == _OTHER])

    def shares(self, keys: Keys) -> NDArray[np.float64]:
        """(S,) probability of the last symbol of each key behind those before it."""
        share = np.full(len(keys), 1.0 / _SIZE)
        for order, table in enumerate(self._tables, 1):
            share = table.smoothed(keys & _mask(order), share)
        return share

    def symbol_keys(self, points: NDArray[np.int64]) -> Keys:
        """(S,) one key for every character and the end: it and the ``order - 1`` symbols before it."""
        return _symbol_keys(self._symbol, points, self.order)

    def _orders(self, keys: Keys, values: Counts) -> list["_Table"]:
        """Tables from order 1 up; each lower one counts the distinct n-grams of the one above it."""
        tables = [_Table.of(keys, values)]
        for order in range(self.order - 1, 0, -1):
            keys, values = np.unique(keys & _mask(order), return_counts=True)
            tables.append(_Table.of(keys, values))
        return tables[::-1]

    def _spelled(self, points: NDArray[np.int64]) -> float:
        """Bits to say which other character each was: unigram, one count kept back for all never seen."""
        counts = self._others[points]
        total = self._others.sum() + 1
        known = -np.log2(np.maximum(counts, 1) / total)
        return float(np.where(counts > 0, known, math.log2(total) + math.log2(_CODE_POINTS)).sum())


@dataclass(frozen=True)
class _Table:
    """Counts of the n-grams of one order, by key, and sums over those that share all but the last symbol."""

    keys: Keys
    counts: Counts
    contexts: Keys
    """Sorted keys of what stands before the last symbol."""
    totals: Counts
    types: Counts
    discount: float

    @classmethod
    def of(cls, keys: Keys, counts: Counts) -> "_Table":
        contexts, starts = np.unique(keys >> np.uint64(_BITS), return_index=True)
        totals = np.add.reduceat(counts, starts)
        types = np.diff(np.append(starts, len(keys)))
        return cls(keys, counts, contexts, totals, types, discount(counts))

    def smoothed(self, keys: Keys, below: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities of n-grams (S,), given those of the order below."""
        counts = looked_up(self.keys, self.counts, keys)
        before = keys >> np.uint64(_BITS)
        totals = looked_up(self.contexts, self.totals, before)
        types = looked_up(self.contexts, self.types, before)
        some = np.maximum(totals, 1)
        left = np.where(totals > 0, self.discount * types / some, 1.0)
        return np.maximum(counts - self.discount, 0) / some + left * below


@dataclass
class _Counted:
    """What one order counted: its n-grams, the text behind them, and the symbols they are of."""

    symbol: Keys
    seen: Counts
    characters: int = 0
    keys: Keys = field(default_factory=lambda: np.empty(0, np.uint64))
    values: Counts = field(default_factory=lambda: np.empty(0, np.int64))


def _counted(texts: Iterable[str], orders: Iterable[int], largest: int) -> dict[int, _Counted]:
    """Count the n-grams of several orders in one reading; each as far as its own table holds them.

    The highest order is counted from the text, the ones below from its keys, cut to their last symbols.
    """
    seen, symbol = np.zeros(_CODE_POINTS, np.int64), np.empty(0, np.uint64)
    live = sorted(orders, reverse=True)
    found = {order: _Counted(symbol, seen) for order in live}
    characters = 0
    for number, chunk in enumerate(_chunks(texts)):
        points = [codes(text) for text in chunk]
        seen = seen + np.bincount(np.concatenate(points), minlength=_CODE_POINTS)
        characters += sum(map(len, points))
        symbol = symbol if number else _symbols(seen)
        text_keys = np.concatenate([_symbol_keys(symbol, one, live[0]) for one in points])
        keys, counts = np.unique(text_keys, return_counts=True)
        for order in live:
            keys, counts = summed(keys & _mask(order), counts)
            one = found[order]
            one.keys, one.values = merged(one.keys, one.values, keys, counts)
            one.symbol, one.seen, one.characters = symbol, seen, characters
        live = [order for order in live if len(found[order].keys) <= largest]
        if not live:
            break
    if not characters:
        raise ValueError("there is no text to learn from")
    return found


def _symbols(seen: Counts) -> Keys:
    """(code points,) the symbol of every character: the most frequent ones have their own."""
    symbol = np.full(_CODE_POINTS, _OTHER, np.uint64)
    frequent = np.argsort(-seen, kind="stable")[: _SIZE - 2]
    frequent = frequent[seen[frequent] > 0]
    symbol[frequent] = np.arange(2, 2 + len(frequent), dtype=np.uint64)
    return symbol


def _symbol_keys(symbol: Keys, points: NDArray[np.int64], order: int) -> Keys:
    symbols = np.concatenate(
        [np.full(order - 1, _END, np.uint64), symbol[points], np.array([_END], np.uint64)]
    )
    keys = np.zeros(len(points) + 1, np.uint64)
    for place in range(order):
        keys = keys << np.uint64(_BITS) | symbols[place : place + len(keys)]
    return keys


def _mask(order: int) -> np.uint64:
    return np.uint64((1 << _BITS * order) - 1)


def _chunks(texts: Iterable[str]) -> Iterable[list[str]]:
    """Texts some at a time, as whole documents."""
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(text)
        size += len(text)
        if size >= _PENDING:
            yield chunk
            chunk, size = [], 0
    if chunk and size:
        yield chunk
