"""Positions beyond the length of a row, drawn anew for each step: rows stay short, distances become long.

::

    a row of 8, positions up to 32         plain        0 1 2 3  4  5  6  7
                                           randomized   0 3 4 9 17 21 22 31     t = 4: up to 4 · 8 - 1
                                           pose         0 1 2 3 20 21 22 23     one gap, at a random place

``randomized`` (Ruoss et al. 2023) is what CLEX trains with (Chen et al. 2023), t from 1 on, so that all
lengths take part. ``pose`` is positional skip-wise training (PoSE, Zhu et al. 2023), which keeps neighbours
next to each other. Both are pure functions of seed, step and row, whatever the number of processes.
"""

# B rows of a micro-batch, T tokens of a row

from dataclasses import dataclass
from typing import Literal

import numpy as np

PositionKind = Literal["randomized", "pose"]
_DRAW = 0x706F  # separates this use of a seed from all others


@dataclass(frozen=True)
class PositionSampling:
    """How positions of training rows are drawn."""

    kind: PositionKind
    reach: int
    """They are below this number."""
    seed: int = 0

    def __call__(
        self, rows: np.ndarray, step_rows: int, tokens: int, positions: np.ndarray | None
    ) -> np.ndarray | None:
        """Positions of some rows: (B, T), or (1, T) where they are those of all rows, or None for 0 … T-1.

        Args:
            rows: (B,) their places in the global order.
            step_rows: rows of a step, over all processes.
            tokens: T.
            positions: (B, T) that restart at each document, or None where a row holds one. Those drawn then
                restart as well: they grow within a document as they would have at its place in the row.
        """
        if self.kind == "randomized":
            # One draw for a whole step, as in CLEX: where frequencies depend on the position, all its rows
            # then change them at the same places, and share the work.
            drawn = _randomized(self._random(int(rows[0]) // step_rows), tokens, self.reach)[None]
        else:
            drawn = np.stack([_skipped(self._random(row), tokens, self.reach) for row in rows.tolist()])
        places = np.arange(tokens)
        if positions is not None:
            drawn = np.broadcast_to(drawn, positions.shape)
            return drawn - np.take_along_axis(drawn, places - positions, 1)
        return None if (drawn == places).all() else drawn

    def _random(self, place: int) -> np.random.Generator:
        return np.random.default_rng([_DRAW, self.seed, place])


def _randomized(random: np.random.Generator, tokens: int, reach: int) -> np.ndarray:
    """0, a sorted random subset, t · T - 1, for a t that is drawn: (T,), all below ``reach``."""
    times = int(random.integers(1, -(-reach // tokens) + 1))
    last = min(times * tokens, reach) - 1
    if tokens < 2 or last < tokens:
        return np.arange(tokens)
    between = random.choice(last - 1, tokens - 2, replace=False) + 1
    return np.concatenate([[0], np.sort(between), [last]])


def _skipped(random: np.random.Generator, tokens: int, reach: int) -> np.ndarray:
    """0 … T-1 with a gap: (T,), all below ``reach``."""
    if tokens < 2 or reach <= tokens:
        return np.arange(tokens)
    cut, gap = random.integers(1, tokens), random.integers(reach - tokens + 1)
    return np.arange(tokens) + np.where(np.arange(tokens) < cut, 0, gap)
