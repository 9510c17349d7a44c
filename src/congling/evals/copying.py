"""How much of a generated text is copied from the training text: the other half of every sample's story.

A small model that has seen a small book many times recites it. The copy rate is the share of generated
characters that lie inside a verbatim span of at least ``n`` characters of the training text; the same
number for held-out text says how much of it is ordinary (set phrases, chapter headings).

The generated text is small and is indexed; the training text only streams past in blocks, so memory does
not depend on its size. Windows of ``n`` characters are compared by a rolling hash first (numpy) and then
exactly.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from congling.data.counts import codes
from congling.data.rolling_hash import sequence_hashes

SPAN = 20
"""Characters from which a verbatim span counts as copied: longer than idioms, names and verse lines."""
_BLOCK = 1 << 20  # characters of training text looked at together
_TABLE_BITS = 20
_GAP = "\0"  # stands between documents; windows over it never count


@dataclass(frozen=True)
class CopyReport:
    """What part of some text stands verbatim in the training text."""

    characters: int
    """Characters examined."""
    copied: int
    """Characters inside a copied span."""
    span: int
    """Shortest span that counts, in characters."""
    longest: int
    """Length of the longest copied span in characters (0: none reaches ``span``)."""
    longest_text: str
    """That span, cut to 200 characters."""

    @property
    def rate(self) -> float:
        """Copied share of the characters, 0 to 1."""
        return self.copied / self.characters if self.characters else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the fields and the rate as plain values."""
        return asdict(self) | {"rate": self.rate}


def copy_report(generated: Sequence[str], training: Iterable[str], *, span: int = SPAN) -> CopyReport:
    """Measure how much of ``generated`` is copied from the ``training`` texts (streamed once).

    Raises:
        ValueError: ``span`` is below 2.
    """
    covered, longest = coverage(generated, training, span=span)
    copied = sum(int(mask.sum()) for mask in covered)
    return CopyReport(sum(map(len, generated)), copied, span, len(longest), longest[:200])


def coverage(
    generated: Sequence[str], training: Iterable[str], *, span: int = SPAN
) -> tuple[list[np.ndarray], str]:
    """Which characters of each text are copied, (characters,) booleans, and the longest copied span.

    Raises:
        ValueError: ``span`` is below 2.
    """
    if span < 2:
        raise ValueError(f"span must be at least 2, not {span}")
    generated = [text.replace(_GAP, "\ufffd") for text in generated]
    places: dict[str, list[tuple[int, int]]] = {}
    for sample, text in enumerate(generated):
        for start in range(len(text) - span + 1):
            places.setdefault(text[start : start + span], []).append((sample, start))
    covered = [np.zeros(len(text), dtype=bool) for text in generated]
    found: set[str] = set()
    longest = ""
    limit = max((len(text) for text in generated), default=0)
    if places:
        table = _table(places, span)
        for block in _blocks(training, overlap=limit):
            hits = _hits(block, table, places, span)
            for gram in {block[start : start + span] for start in hits} - found:
                found.add(gram)
                for sample, at in places[gram]:
                    covered[sample][at : at + span] = True
            for first, last in _runs(hits):
                if len(longest) < min(limit, last + span - first):
                    longest = _longest_common(block[first : last + span], generated, longest, span)
    return covered, longest


def _blocks(texts: Iterable[str], overlap: int) -> Iterator[str]:
    """Join texts into blocks of bounded size; a text cut by a block's end is repeated by ``overlap``
    characters."""
    held = ""
    for text in texts:
        text = text.replace(_GAP, "\ufffd")
        for start in range(0, max(1, len(text)), _BLOCK):
            held += text[start : start + _BLOCK]
            if len(held) >= _BLOCK:
                yield held
                held = held[len(held) - min(overlap, _BLOCK // 2) :]
        held += _GAP
    if held:
        yield held


def _buckets(text: str, span: int) -> np.ndarray:
    """The place in the table of every ``span`` neighbouring characters."""
    return sequence_hashes(codes(text), span) >> np.uint64(64 - _TABLE_BITS)


def _table(places: Iterable[str], span: int) -> np.ndarray:
    table = np.zeros(1 << _TABLE_BITS, dtype=bool)
    for gram in places:
        table[_buckets(gram, span)] = True
    return table


def _hits(block: str, table: np.ndarray, places: dict[str, list[tuple[int, int]]], span: int) -> list[int]:
    """Starts of the windows of ``block`` that stand in the generated text: likely ones by hash, then
    exactly."""
    likely = np.flatnonzero(table[_buckets(block, span)])
    return [start for start in likely.tolist() if block[start : start + span] in places]


def _runs(starts: list[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run of consecutive numbers."""
    first = previous = None
    for start in starts:
        if previous is None or first is None or start != previous + 1:
            if first is not None and previous is not None:
                yield first, previous
            first = start
        previous = start
    if first is not None and previous is not None:
        yield first, previous


def _longest_common(run: str, generated: Sequence[str], best: str, span: int) -> str:
    """Longest substring of ``run`` found in a generated text, if longer than ``best`` (two moving ends)."""
    length = max(len(best), span - 1)
    for start in range(len(run)):
        while start + length < len(run) and any(
            run[start : start + length + 1] in text for text in generated
        ):
            length += 1
            best = run[start : start + length]
    return best
