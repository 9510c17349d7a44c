"""Eight-bit groups of llama2.c's version 2: consecutive values share a float32 scale, the largest is ±127."""

import numpy as np


def group_size(*inputs: int) -> int:
    """The largest of 64, 32, 16 … 1 that divides every row length, as export.py chooses by ``dim`` alone.

    runq.c walks every row of a matrix in whole groups, so a group that does not divide ``hidden_dim`` would
    silently leave values out there.
    """
    size = 64
    while any(length % size for length in inputs):
        size //= 2
    return size


def encode(values: np.ndarray, group: int) -> tuple[np.ndarray, np.ndarray]:
    """Quantise float32 values: int8 of the same shape, and float32 scales (groups,) in row-major order."""
    rows = values.astype(np.float32, copy=False).reshape(-1, group)
    scales = np.abs(rows).max(axis=1) / np.float32(127)
    divisor = np.where(scales == 0, np.float32(1), scales)  # a group of zeros has scale 0
    return np.rint(rows / divisor[:, None]).astype(np.int8).reshape(values.shape), scales


def decode(values: np.ndarray, scales: np.ndarray, group: int) -> np.ndarray:
    """Float32 values of the same shape."""
    rows = values.reshape(-1, group).astype(np.float32) * scales[:, None]
    return rows.reshape(values.shape)
