"""Codes of a few bits in 32-bit words: the k-th code of a row begins at bit k · bits of that row.

::

    4 bits   word 0: codes 0 … 7                        3 bits   word 0: codes 0 … 9 and two bits of code 10
             word 1: codes 8 … 15                                word 1: its third bit, codes 11 … 20, …

The lowest bits come first. GPTQ, AWQ and compressed-tensors differ in what a row is and in the
order of codes.
"""

# R rows, C codes of a row, B bits of a code, W words of a row: ⌈C·B/32⌉

import numpy as np
import torch
from torch import Tensor

WORD = 32


def words(codes: int, bits: int) -> int:
    """Words that a row of ``codes`` takes."""
    return -(-codes * bits // WORD)


def packed(codes: Tensor, bits: int) -> Tensor:
    """(R, C) codes below 2^bits -> (R, W) int32; what is left of the last word is 0."""
    rows, count = codes.shape
    shifts = np.arange(bits, dtype=np.uint8)
    stream = codes.to(torch.uint8).numpy()[..., None] >> shifts & 1  # (R, C, B)
    filled = np.zeros((rows, words(count, bits) * WORD), np.uint8)
    filled[:, : count * bits] = stream.reshape(rows, -1)
    return torch.from_numpy(np.packbits(filled, axis=1, bitorder="little").view("<i4").astype(np.int32))


def unpacked(stored: Tensor, bits: int, count: int) -> Tensor:
    """(R, W) int32 -> (R, ``count``) uint8."""
    taken = np.ascontiguousarray(stored.numpy().astype("<i4")).view(np.uint8)
    stream = np.unpackbits(taken, axis=1, count=count * bits, bitorder="little")
    codes = np.packbits(stream.reshape(-1, bits), axis=1, bitorder="little")  # fewer than 8 bits: zeros above
    return torch.from_numpy(codes.reshape(len(stored), count))
