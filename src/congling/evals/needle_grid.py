"""Scores of needles sorted by kind, depth and length, and as one table; no torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from congling.evals.needle_scores import ALL, EFFECTIVE, NAME, OWN, WINDOW, WRITTEN
from congling.evals.scores import Score, shown

EVERY = -1
"""In the place of a depth: all of them together."""
Place = tuple[int, int]
"""Length in tokens, and depth in per cent."""


@dataclass(frozen=True)
class Grid:
    """The scores of one kind."""

    cells: dict[Place, Score] = field(default_factory=dict)
    written: dict[Place, Score] = field(default_factory=dict)
    windows: dict[Place, Score] = field(default_factory=dict)
    lines: dict[str, Score] = field(default_factory=dict)
    """The effective length and the share at the trained length, by likelihood."""

    @property
    def lengths(self) -> list[int]:
        """Of all cells, the shortest first."""
        return sorted({length for length, _ in self.cells})

    @property
    def depths(self) -> list[int]:
        """Of all cells, the beginning of the text first."""
        return sorted({depth for _, depth in self.cells if depth != EVERY})


def grids(scores: Iterable[Score]) -> Mapping[str, Grid]:
    """Scores by kind; those of other names are left out."""
    found: dict[str, Grid] = {}
    for score in scores:
        task, *parts = score.name.split("/")
        if task != NAME or len(parts) < 2:
            continue
        grid = found.setdefault(parts[0], Grid())
        if parts[1] in (EFFECTIVE, OWN) and len(parts) == 2:
            grid.lines[parts[1]] = score
            continue
        numbers = [int(part) for part in parts[1:3] if part.isascii() and part.isdecimal() and len(part) < 8]
        rest = parts[1 + len(numbers) :]
        table = {"": grid.cells, WRITTEN: grid.written, WINDOW: grid.windows}.get("/".join(rest))
        if numbers and table is not None:
            table[numbers[0], numbers[1] if len(numbers) == 2 else EVERY] = score
    return {kind: grid for kind, grid in found.items() if grid.cells}


def rows(scores: Sequence[Score]) -> tuple[tuple[str, ...], list[tuple[str, ...]], list[str]]:
    """Depth by length: the head of a table, its rows, and what is to be said below it."""
    found = grids(scores)
    lengths = sorted({length for grid in found.values() for length in grid.lengths})
    body: list[tuple[str, ...]] = []
    for kind, grid in found.items():
        depths = [*grid.depths, EVERY]
        for depth in depths:
            name = kind if depth == depths[0] else ""
            place = "all" if depth == EVERY else f"{depth} %"
            body.append((name, place, *(_both(grid, (length, depth)) for length in lengths)))
        if grid.windows:
            for depth in grid.depths:
                line = [_percent(grid.windows.get((length, depth))) for length in lengths]
                body.append(("  window" if depth == grid.depths[0] else "", f"{depth} %", *line))
    return ("needles", "depth", *(f"{length:,}" for length in lengths)), body, _notes(found)


def _both(grid: Grid, place: Place) -> str:
    """By likelihood, and as it was written."""
    return " · ".join(filter(None, (_percent(grid.cells.get(place)), _percent(grid.written.get(place)))))


def _percent(score: Score | None) -> str:
    return "" if score is None else f"{score.value:.0%}"


def _notes(found: Mapping[str, Grid]) -> list[str]:
    first = next((score for grid in found.values() for score in grid.cells.values()), None)
    if first is None:
        return []
    chance = "" if first.chance is None else f"; chance {shown(first.chance, 'share')}"
    written = next((score.protocol for grid in found.values() for score in grid.written.values()), "")
    window = next((score.protocol for grid in found.values() for score in grid.windows.values()), "")
    notes = [f"first: {first.protocol}{chance}; {first.n:,} problems in the first cell"]
    notes += [f"second: {written}"] if written else []
    notes += [f"window: {window}"] if window else []
    for kind, grid in found.items():
        own, far = grid.lines.get(OWN), grid.lines.get(EFFECTIVE)
        if own is not None and far is not None and own.low is not None and own.high is not None:
            between = f"{shown(own.low, 'share')} … {shown(own.high, 'share')}"
            name = "all kinds" if kind == ALL else kind
            notes.append(
                f"{name}: {shown(own.value, 'share')} ({between}) at its trained length, "
                f"effective length {far.value:,.0f} tokens"
            )
    return notes
