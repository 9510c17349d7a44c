"""Where windows lie: documents in a fresh order every epoch, joined to a ring, cut at a random place.

::

    documents, permuted     [ d d d eos ][ a a eos ][ c c c c c eos ]
    joined to a ring        d d d eos a a eos c c c c c eos ↺
    random offset, cut            |eos a a eos|c c c c c …             windows of T + 1 tokens, T apart
    windows permuted        each token but the remainder (< T) is a target exactly once an epoch

The ring has no seam: the token before any document is always an end-of-text id, which is what a first token
is predicted from. A corpus shorter than one window goes round the ring more than once.
"""

# T context (tokens a row predicts), N tokens of the split, D documents, W windows an epoch

from dataclasses import dataclass

import numpy as np

_SHUFFLE = 0x6C67  # separates this use of a seed from all others


@dataclass(frozen=True)
class Epoch:
    """One pass over a split: a few numbers for each document and each window, never a copy of the tokens."""

    order: np.ndarray
    """(D,) documents in this epoch's order."""
    ends: np.ndarray
    """(D,) where they end on the ring."""
    offset: int
    """Where on the ring the first window begins."""
    windows: np.ndarray
    """(W,) windows in this epoch's order."""


def windows_per_epoch(tokens: int, context: int) -> int:
    """W = N // T, at least one."""
    return max(1, tokens // context)


def epoch_layout(ends: np.ndarray, *, context: int, seed: int, epoch: int) -> Epoch:
    """Draw the layout of one epoch: a pure function of its arguments.

    ``ends`` (D,) are the cumulative lengths of the documents, all at least 1.
    """
    random = np.random.default_rng([_SHUFFLE, seed, epoch])
    order = random.permutation(len(ends))
    total = int(ends[-1])
    offset = int(random.integers(total))
    windows = random.permutation(windows_per_epoch(total, context))
    return Epoch(order, np.cumsum(np.diff(ends, prepend=0)[order]), offset, windows)


def gather(layout: Epoch, ends: np.ndarray, rows: np.ndarray, context: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the tokens of some windows.

    Args:
        layout: the epoch.
        ends: (D,) cumulative lengths in the file's order.
        rows: (B,) places in the epoch's order of windows.
        context: T.

    Returns:
        Two (B, T + 1) int64 arrays: index of each token in the file, and the place on the ring where its text
        begins. A repeated visit of a short corpus counts as another document.
    """
    total = int(ends[-1])
    absolute = (layout.offset + layout.windows[rows] * context)[:, None] + np.arange(context + 1)
    lap, ring = np.divmod(absolute, total)
    slot = np.searchsorted(layout.ends, ring, side="right")
    document = layout.order[slot]
    begin = layout.ends[slot] - (ends[document] - np.where(document > 0, ends[document - 1], 0))
    file_begin = np.where(document > 0, ends[document - 1], 0)
    return file_begin + ring - begin, begin + lap * total


def restarts(begins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions and document numbers within rows, from where each *target's* document begins.

    An input token belongs to the document of its target: the end-of-text id that precedes a document opens
    it, so its first token never sees the document before, exactly as when generating from a lone
    end-of-text id.

    Args:
        begins: (B, T), equal within a document and different between neighbours.

    Returns:
        positions (B, T), from 0 at each opening and at the row's start, so always below T;
        documents (B, T), from 0 in each row.
    """
    opening = np.zeros(begins.shape, bool)
    opening[:, 1:] = begins[:, 1:] != begins[:, :-1]
    place = np.broadcast_to(np.arange(begins.shape[1]), begins.shape)
    started = np.maximum.accumulate(np.where(opening, place, 0), axis=1)
    return place - started, np.cumsum(opening, axis=1)
