"""Hashes of all sequences of so many neighbouring characters of a text, in whole-array operations."""

import numpy as np
from numpy.typing import NDArray

_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplication permutes 64-bit numbers


def sequence_hashes(codes: NDArray[np.integer], length: int) -> NDArray[np.uint64]:
    """The 64-bit hash of every ``length`` neighbours, (n,) code points to (n - length + 1,), in order.

    Polynomials modulo 2**64, mixed so that the high bits depend on all characters.
    """
    count = len(codes) - length + 1
    if count < 1:
        return np.empty(0, np.uint64)
    codes = codes.astype(np.uint64)
    hashes = np.zeros(count, np.uint64)
    for offset in range(length):
        hashes *= _BASE
        hashes += codes[offset : offset + count]
    hashes ^= hashes >> np.uint64(29)  # the low bits of a product depend on the low bits of its factors alone
    return hashes * _BASE
