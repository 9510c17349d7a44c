"""Blocks of tokens deep in long texts, each with all that stands before it: what contexts are compared on.

::

    document    ················■■■■■■■■■■■■    blocks lie apart, behind the first 8 · L tokens
    block 1     ················■■■■
    block 2         ················■■■■        with as many tokens before it, of the same document
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from congling.core.errors import UserError
from congling.core.progress import track
from congling.evals.bench import Bench, draw

MULTIPLES = (8, 4, 2)
"""Times the trained length that stand before a block, the most that enough documents allow."""
ENOUGH = 4
"""Documents that suffice."""
MOST_CHARACTERS = 8_000_000
"""Characters of texts that are looked at."""


@dataclass(frozen=True)
class LongText:
    """A document as ids, behind the beginning of a text; its end is nothing that length could tell."""

    text: str
    ids: NDArray[np.int32]


@dataclass(frozen=True)
class Blocks:
    """What is scored, and what stands before it."""

    texts: Sequence[NDArray[np.int32]]
    """Each ``reach + 1`` ids, of which the last are a block."""
    document: NDArray[np.int64]
    """(texts,) number of the document of each."""
    sources: Sequence[LongText]
    """The documents."""
    reach: int
    """Tokens that can be read before the last id of each."""
    size: int
    """Ids of a block."""

    def of_documents(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums of a number of each text (texts,) by document: (documents,)."""
        return np.bincount(self.document, values, minlength=len(self.sources)).astype(np.float64)


def tail_blocks(bench: Bench, length: int, size: int) -> Blocks:
    """Choose blocks of ``size`` ids at positions of 8 · ``length`` and beyond, as many as the bench's limit.

    Where too few documents are so long, 4 or 2 times the length, which is noted.

    Raises:
        UserError: there is no text, or none has twice the length.
    """
    found, longest, looked_at = _long_texts(bench, 2 * length)
    if not looked_at:
        raise bench.no_text()
    if not found:
        raise UserError(
            f"no held-out document is long enough: {2 * length:,} tokens are needed, twice the "
            f"{length:,} the model was trained to read",
            value=f"the longest of {looked_at:,} has {longest:,}",
            hint="name longer documents with --data, or a shorter length with --context",
        )
    fitting = {times: [one for one in found if _room(one, times * length)] for times in MULTIPLES}
    needed = min(ENOUGH, len(found))
    times = next(times for times in MULTIPLES if len(fitting[times]) >= needed)
    if times < MULTIPLES[0]:
        more = len(fitting[MULTIPLES[0]])
        bench.note(
            f"blocks stand behind {times * length:,} tokens ({times} × {length:,}): only {more:,} of "
            f"{looked_at:,} held-out documents have {MULTIPLES[0] * length:,} tokens"
        )
    return _chosen(draw(fitting[times], bench.limit, bench.seed), times * length, size, bench.limit)


def _long_texts(bench: Bench, tokens: int) -> tuple[list[LongText], int, int]:
    """Documents of so many tokens or more; the tokens of the longest; how many were looked at."""
    found: list[LongText] = []
    longest, number, tokenizer = 0, 0, bench.loaded.tokenizer
    for document in track(_bounded(bench), "long documents"):
        number += 1
        ids = np.array([tokenizer.bos_id, *tokenizer.encode(document)], np.int32)
        longest = max(longest, len(ids) - 1)
        if _room(one := LongText(document, ids), tokens):
            found.append(one)
    return found, longest, number


def _bounded(bench: Bench) -> Iterator[str]:
    """Texts up to a bound."""
    read = 0
    for document in bench.unseen():
        if read >= MOST_CHARACTERS:
            bench.note(f"only the first {read:,} characters of held-out text were looked at")
            return
        read += len(document.text)
        yield document.text


def _room(one: LongText, reach: int) -> bool:
    return len(one.ids) > reach


def _chosen(documents: Sequence[LongText], reach: int, size: int, most: int) -> Blocks:
    """The same number of blocks from every document as far as it has them, evenly spread."""
    possible = [(len(one.ids) - reach - 1) // size + 1 for one in documents]
    counts = [1] * len(documents)
    while sum(counts) < most and (more := [i for i, one in enumerate(possible) if counts[i] < one]):
        for i in more[: most - sum(counts)]:
            counts[i] += 1
    texts: list[NDArray[np.int32]] = []
    for one, room, count in zip(documents, possible, counts, strict=True):
        firsts = size * np.linspace(0, room - 1, count).round().astype(int)
        texts += [one.ids[first : first + reach + 1] for first in firsts]
    return Blocks(texts, np.repeat(np.arange(len(documents)), counts), documents, reach, size)
