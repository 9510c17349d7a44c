"""Scores of ``eval --tasks`` as ``results.json`` keeps them: read without trusting them, and as tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from congling.core.numbers import whole
from congling.evals.score_layouts import LAYOUTS
from congling.evals.scores import Score, labelled, shown
from congling.report.record import mapping, numeric
from congling.report.run_tables import Table

SCORES = "scores"
"""Name of the scores in ``results.json``: a table by the name of each."""
MOST = 2000
"""Scores that are read."""


@dataclass(frozen=True)
class Measured:
    """Scores of one task, of the same files and at the same step."""

    task: str
    title: str
    """With what they were measured."""
    scores: Sequence[Score]


def measured(results: Mapping[str, Any]) -> list[Measured]:
    """The scores that were kept, as they stand beside each other; what is no score is left out."""
    rows = list(mapping(results.get(SCORES)).values())[:MOST]
    found = [(score, numeric(mapping(row).get("step"))) for row in rows if (score := _score(row)) is not None]
    steps = {step for _, step in found}

    def title(pair: tuple[Score, float | None]) -> str:
        score, step = pair
        name = labelled(score.task, score.data, score.shots)
        return name if step is None or len(steps) == 1 else f"{name}, step {step:,.0f}"

    groups = groupby(found, key=lambda pair: (pair[0].task, title(pair)))
    return [Measured(task, name, [score for score, _ in pairs]) for (task, name), pairs in groups]


def score_tables(results: Mapping[str, Any]) -> tuple[Table, ...]:
    """A table for each group of scores."""
    return tuple(_table(one) for one in measured(results))


def _table(one: Measured) -> Table:
    title = f"Measured: {one.title}"
    if one.task in LAYOUTS:
        head, rows, notes = LAYOUTS[one.task](one.scores)
        return Table(title, head, tuple(rows), frozenset(range(len(head))), ". ".join(notes))
    rows = [
        (
            score.name.partition("/")[2] + (" (reference)" if score.reference else ""),
            shown(score.value, score.unit),
            _between(score),
            "" if score.chance is None else shown(score.chance, score.unit),
            f"{score.n:,}",
            score.unit,
        )
        for score in one.scores
    ]
    head = ("score", "value", "95 % interval", "chance", "n", "unit")
    return Table(title, head, tuple(rows), frozenset({1, 2, 3, 4}))


def _between(score: Score) -> str:
    if score.low is None or score.high is None:
        return ""
    return f"{shown(score.low, score.unit)} … {shown(score.high, score.unit)}"


def _score(row: object) -> Score | None:
    """A score from a table of anyone's; None where it is none."""
    table = mapping(row)
    name, value = table.get("name"), numeric(table.get("value"))
    if not isinstance(name, str) or not name or value is None:
        return None
    unit, protocol, data = (str(table.get(key) or "") for key in ("unit", "protocol", "data"))
    low, high, chance = (numeric(table.get(key)) for key in ("low", "high", "chance"))
    n, shots = (whole(table.get(key)) or 0 for key in ("n", "shots"))
    reference = table.get("reference") is True
    return Score(name, value, n, unit, protocol, low, high, chance, reference, data, shots)
