"""Windows over a text that is longer than the context: every token is scored once, behind others.

::

    ■■■■■■■■            the first window: all but its first id
        ····■■■■        then what overlaps is only read, and the rest scored
            ····■■■
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from congling.data.token_split import TokenSplit


@dataclass(frozen=True)
class Row:
    """Ids, at most the context and one more, of which those from ``start`` (at least 1) are scored."""

    ids: Sequence[int] | np.ndarray
    start: int
    documents: np.ndarray | None = None
    """(T,) the document of every id but the first, where attention stays inside one."""


def window_starts(
    targets: int, context: int, overlap: int, limit_tokens: int | None = None
) -> NDArray[np.int64]:
    """Where the windows over a text begin, ``context - overlap`` apart.

    With ``limit_tokens`` only as many windows are taken, evenly spread over the whole text: its beginning
    alone can be much easier or harder than the rest.

    Args:
        targets: ids of the text that are scored, all but the first.
        context: targets of one window.
        overlap: targets of all but the first window that were scored before.
        limit_tokens: about how many are scored; all of them by default.

    Raises:
        ValueError: ``overlap`` is not between 0 and ``context - 1``.
    """
    if not 0 <= overlap < context:
        raise ValueError(f"overlap {overlap} must be at least 0 and below the context {context}")
    stride = context - overlap
    starts = np.arange(0, max(min(1, targets), targets - overlap), stride)
    if limit_tokens is not None and limit_tokens < targets:
        count = min(len(starts), max(1, limit_tokens // stride))
        starts = starts[np.linspace(0, len(starts) - 1, count).round().astype(np.int64)]
    return starts


def text_rows(ids: Sequence[int], context: int) -> list[Row]:
    """Windows over the ids of one text, each with half a context before it where there is one."""
    overlap = context // 2
    starts = window_starts(len(ids) - 1, context, overlap).tolist()
    return [Row(ids[start : start + context + 1], overlap + 1 if start else 1) for start in starts]


def split_row(
    split: TokenSplit, start: int, context: int, overlap: int, *, document_mask: bool = False
) -> Row:
    """The window over a split whose first target is token ``start``.

    The first token of a document, that of the split included, is predicted from the end-of-text id before it.
    """
    end = min(start + context, len(split.tokens))
    ids = split.tokens[max(0, start - 1) : end].astype(np.int64)
    if not start:
        ids = np.append(split.eos_id, ids)
    documents = np.searchsorted(split.ends, np.arange(start, end), side="right") if document_mask else None
    return Row(ids, overlap + 1 if start else 1, documents)
