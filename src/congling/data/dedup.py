"""Equal documents, and training documents that give away what a validation document says.

Near copies are found by common 13-character sequences, after the 13-grams by which GPT-3 measured the
overlap of training and evaluation data (Brown et al. 2020, appendix C). Memory grows with the validation
side alone.
"""

import hashlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

from congling.data.counts import codes
from congling.data.rolling_hash import sequence_hashes

GRAM = 13
_LEAST = 8  # common sequences below which two short texts are not called near copies
_FILTER_BITS = 22
_LAST_LETTER = 0x32400  # CJK extension H ends below; beyond are no letters


def content_hash(text: str) -> int:
    """64-bit hash of a text without its white space: documents that differ in layout alone are equal."""
    plain = "".join(text.split()).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(plain, digest_size=8).digest(), "little")


@cache
def _letters() -> NDArray[np.bool_]:
    """Which code points are letters or digits of any script."""
    table = np.zeros(0x110000, bool)
    table[:_LAST_LETTER] = [chr(code).isalnum() for code in range(_LAST_LETTER)]
    return table


def _hashes(text: str) -> NDArray[np.uint64]:
    """Hashes of the 13-character sequences of a text without white space and punctuation, in order."""
    points = codes(text.casefold())
    return sequence_hashes(points[_letters()[points]], GRAM)


def grams(text: str) -> NDArray[np.uint64]:
    """Sorted distinct hashes of the 13-character sequences of a text."""
    return np.unique(_hashes(text))


class Overlap:
    """The 13-character sequences of the validation documents, asked about one training document at a time."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._ids: list[str] = []
        self._sizes: list[int] = []
        self._parts: list[NDArray[np.uint64]] = []
        self._hashes = np.empty(0, np.uint64)
        self._owners = np.empty(0, np.int32)
        self._filter = np.zeros(1 << _FILTER_BITS, bool)

    def add(self, text: str, name: str) -> None:
        """Remember a validation document."""
        found = grams(text)
        self._ids.append(name)
        self._sizes.append(len(found))
        self._parts.append(found)

    def ready(self) -> None:
        """Sort what was added; call once before the first question."""
        owners = np.repeat(np.arange(len(self._parts), dtype=np.int32), self._sizes)
        hashes = np.concatenate([*self._parts, np.empty(0, np.uint64)])
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._owners, self._parts = hashes[order], owners[order], []
        self._filter[hashes >> np.uint64(64 - _FILTER_BITS)] = True

    def near_copy(self, text: str) -> tuple[str, float] | None:
        """The validation document that shares most with ``text``, and the share, if it reaches the limit.

        The share is of the shorter one's sequences: a training document that holds a whole validation
        document gives it away as much as one that is part of it.
        """
        asked = _hashes(text)
        asked = asked[self._filter[asked >> np.uint64(64 - _FILTER_BITS)]]
        if len(asked) < _LEAST:  # most documents end here
            return None
        asked = np.unique(asked)
        first = np.searchsorted(self._hashes, asked)
        hit = self._hashes[np.minimum(first, len(self._hashes) - 1)] == asked
        if int(hit.sum()) < _LEAST:
            return None
        first, last = first[hit], np.searchsorted(self._hashes, asked[hit], "right")
        runs = last - first  # a sequence may belong to several validation documents
        places = np.arange(int(runs.sum())) + np.repeat(first - np.cumsum(runs) + runs, runs)
        common = np.bincount(self._owners[places], minlength=len(self._sizes))
        shorter = np.maximum(np.minimum(self._sizes, len(grams(text))), 1)
        share = np.where(common >= _LEAST, common / shorter, 0.0)
        best = int(share.argmax())
        return (self._ids[best], float(share[best])) if share[best] >= self._share else None
