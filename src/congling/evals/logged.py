"""Reading what a run has logged: columns of numbers, looks at texts, beginnings and ends of curves."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from congling.core.numbers import finite

Rows = Sequence[Mapping[str, Any]]
"""As they stand in ``metrics.jsonl`` and ``samples.jsonl``."""


def correlation(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Pearson's correlation; 0 where one of the two does not vary."""
    try:
        return statistics.correlation(xs, ys)
    except statistics.StatisticsError:
        return 0.0


def by_step(samples: Rows) -> list[Rows]:
    """The texts of each step that wrote any, in order of the steps."""
    found: dict[float, list[Mapping[str, Any]]] = {}
    for row in samples:
        step = finite(row.get("step"))
        if step is not None and {"prompt", "text"} <= row.keys():
            found.setdefault(step, []).append(row)
    return list(found.values())


def column(metrics: Rows, name: str) -> list[float]:
    """All finite numbers of a name, in order."""
    return [row[name] for row in metrics if number(row, name)]


def number(row: Mapping[str, Any], name: str) -> bool:
    """Whether a row has a finite number of this name."""
    return finite(row.get(name)) is not None


def tail(values: Sequence[float]) -> Sequence[float]:
    """The last tenth, three at least."""
    return values[-max(3, len(values) // 10) :]


def head(values: Sequence[float]) -> Sequence[float]:
    """The first tenth, three at least."""
    return values[: max(3, len(values) // 10)]
