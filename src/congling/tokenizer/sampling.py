"""A bounded, reproducible sample of a corpus to train a tokenizer on, and counts of all its characters.

Learning keeps every distinct run of characters in memory; its cost grows with the sample, never with the
corpus. Measured on Chinese prose and encyclopaedia articles, above the 35 MB of an idle process:

=========  =======  ============  ==================
kind       sample   peak memory   per MB of sample
=========  =======  ============  ==================
bpe        4 MB     218 MB        54 MB
bpe        16 MB    533 MB        33 MB
unigram    4 MB     79 MB         20 MB
=========  =======  ============  ==================

The default sample of 48 MB therefore takes about 1.5 GB, and 2.6 GB should no run of characters ever repeat:
a corpus of any size is learnt from within 4 GB. The sample is drawn by hashing the place of each block of
text, so the same corpus gives the same sample on every machine.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

Texts = Callable[[], Iterator[str]]
"""Gives the texts of the corpus from the beginning, each time it is called."""

BLOCK_CHARACTERS = 2**14  # unit of the sample: a long document is sampled in parts
_COUNT_AT = 2**20  # characters collected before they are counted


@dataclass(frozen=True)
class Counts:
    """What one pass over the corpus found."""

    texts: int
    characters: int
    bytes: int
    by_character: dict[str, int]
    """Occurrences of each character, the most frequent first."""

    def frequent(self, occurrences: int) -> int:
        """Number of characters that occur at least so often."""
        return sum(count >= occurrences for count in self.by_character.values())


def count(texts: Texts) -> Counts:
    """Count the characters of a corpus in one pass; memory does not grow with it."""
    totals = np.zeros(0x110000, np.int64)
    held: list[str] = []
    size = number = 0
    for text in texts():
        number += 1
        for start in range(0, len(text), _COUNT_AT):
            held.append(text[start : start + _COUNT_AT])
            size += len(held[-1])
            if size >= _COUNT_AT:
                _add(totals, held)
                held, size = [], 0
    _add(totals, held)
    found = np.flatnonzero(totals)
    ranked = found[np.lexsort((found, -totals[found]))]
    widths = 1 + (found >= 0x80) + (found >= 0x800) + (found >= 0x10000)
    by_character = {chr(point): int(totals[point]) for point in ranked}
    return Counts(number, int(totals.sum()), int((totals[found] * widths).sum()), by_character)


def sample(texts: Texts, *, corpus_bytes: int, limit_bytes: int, seed: int) -> Iterator[str]:
    """Blocks of the corpus, in order, about ``limit_bytes`` of them and never more; all of it when it fits.

    ``corpus_bytes`` is the size of the whole, as ``count`` found it.
    """
    share = limit_bytes / max(1, corpus_bytes)
    given = 0
    for number, text in enumerate(texts()):
        for start in range(0, len(text), BLOCK_CHARACTERS):
            if share < 1 and _chance(seed, number, start) >= share:
                continue
            block = text[start : start + BLOCK_CHARACTERS]
            given += len(block.encode())
            if given > limit_bytes:
                return
            yield block


def _add(totals: np.ndarray, held: list[str]) -> None:
    points = np.frombuffer("".join(held).encode("utf-32-le"), np.uint32)
    counts = np.bincount(points)
    totals[: len(counts)] += counts


def _chance(seed: int, number: int, start: int) -> float:
    """A number in [0, 1) that depends on the place alone."""
    digest = hashlib.blake2b(f"{seed} {number} {start}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
