"""Sentencepiece's precompiled map of characters: the table a normaliser replaces parts of a text by.

::

    u32 size of the trie in bytes | the trie, u32 units | replacements, each ended by a zero byte

The trie is a double array (as of the Darts-clone library): from a unit, the next byte ``c`` leads to unit
``place ^ offset ^ c`` if that carries the label ``c``; a unit with the leaf bit has its value at
``place ^ offset``. Readers follow these places without looking, so they are all checked here.
"""

import numpy as np

LARGEST = 2**22  # bytes; the map for Unicode normalisation has a quarter of a million
LONGEST = 1024  # bytes one replacement may have; in Unicode 33 are enough
# Fields of a unit: label and the bit that tells a value from an offset, the leaf bit, the value.
_LABEL = np.uint32(0x800000FF)
_LEAF = np.uint32(1 << 8)
_VALUE = np.uint32(0x7FFFFFFF)


def check(data: bytes) -> None:
    """Check that no place the trie leads to lies outside; ValueError says what is wrong."""
    size = int.from_bytes(data[:4], "little")
    if len(data) > LARGEST or size % 1024 or not 0 < size < len(data) - 4:
        raise ValueError(f"a character map of {len(data)} bytes with a trie of {size}")
    units = np.frombuffer(data, np.uint32, size // 4, 4)
    replacements = data[4 + size :]
    if not replacements.endswith(b"\0") or max(map(len, replacements.split(b"\0"))) > LONGEST:
        raise ValueError("a replacement of the character map has no end, or is too long")
    replacements.decode()
    _check_trie(units, len(replacements))


def _check_trie(units: np.ndarray, replacements: int) -> None:
    labels = units & _LABEL
    children = np.flatnonzero((labels > 0) & (labels < 256))
    bases = children ^ labels[children]  # where a parent must point for this child to be found
    order = np.argsort(bases, kind="stable")
    children, bases = children[order], bases[order]
    seen = np.zeros(len(units), bool)
    seen[0] = True
    places = np.zeros(1, np.int64)
    while len(places):
        found = units[places]
        # The value and every child lie within the same 256 units; the array has whole blocks of them.
        near = places ^ _offset(found)
        if (near >= len(units)).any():
            raise ValueError("the trie of the character map leads outside")
        if ((units[near[(found & _LEAF) != 0]] & _VALUE) >= replacements).any():
            raise ValueError("the trie of the character map has a replacement that is not there")
        first, last = np.searchsorted(bases, near, "left"), np.searchsorted(bases, near, "right")
        starts = np.repeat(first - np.cumsum(last - first) + (last - first), last - first)
        places = np.unique(children[starts + np.arange(len(starts))])
        places = places[~seen[places]]
        seen[places] = True


def _offset(units: np.ndarray) -> np.ndarray:
    return (units >> np.uint32(10)) << ((units & np.uint32(1 << 9)) >> np.uint32(6))
