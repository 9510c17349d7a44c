"""Tasks whose scores make a table of their own kind; no torch."""

from collections.abc import Callable, Mapping, Sequence

from congling.evals import length_scores, needle_grid, needle_scores
from congling.evals.scores import Score

Layout = Callable[[Sequence[Score]], tuple[tuple[str, ...], list[tuple[str, ...]], list[str]]]
"""Scores to the head of a table, its rows, and what is to be said below it."""
LAYOUTS: Mapping[str, Layout] = {length_scores.NAME: length_scores.rows, needle_scores.NAME: needle_grid.rows}
