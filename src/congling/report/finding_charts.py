"""What a model finds again far behind: copies over distance as a line, needles as a map for each kind."""

from collections.abc import Iterator, Sequence
from functools import partial

from congling.evals.needle_grid import EVERY, grids
from congling.evals.needle_scores import ALL
from congling.evals.needle_scores import NAME as NEEDLES
from congling.evals.scores import Score
from congling.report.charts import Series
from congling.report.drawing import SMALL, Chart, chart, drawn
from congling.report.heat_map import heat_map

__all__ = ["COPYING", "NEEDLES", "copying_chart", "needle_charts"]

COPYING = "copying-at-distance"
"""Name of the task."""
_SERIES = {"": "whole segment", "tokens": "tokens", "control": "control: never said"}


def copying_chart(title: str, number: int, scores: Sequence[Score]) -> Chart | None:
    """Shares over distance, each with its interval; none where no distance was measured."""
    found: dict[tuple[str, str], dict[int, Score]] = {}
    for score in scores:
        _, *parts = score.name.split("/")
        what = parts[2] if len(parts) > 2 else ""
        known = len(parts) in (2, 3) and what in _SERIES
        if known and parts[1].isascii() and parts[1].isdecimal() and 0 < len(parts[1]) < 8:
            found.setdefault((parts[0], what), {})[int(parts[1])] = score
    several = len({way for way, _ in found}) > 1
    series = [
        Series(
            f"{_SERIES[what]}, {way}" if several else _SERIES[what],
            [(float(distance), row[distance].value) for distance in sorted(row)],
            dots=not what,
            faint=bool(what),
            band=[] if what else _band(row),
        )
        for (way, what), row in found.items()
    ]
    if not series:
        return None
    return chart(
        f"Copied: {title}",
        f"copying-{number}",
        series,
        x_label="distance in tokens",
        y_label="share right",
        y_range=(0.0, 1.0),
        log_x=True,
        size=SMALL,
    )


def needle_charts(title: str, number: int, scores: Sequence[Score]) -> Iterator[Chart]:
    """Depth over length for each kind, in per cent of right answers among the candidates."""
    for place, (kind, grid) in enumerate(grids(scores).items()):
        depths, lengths = grid.depths, grid.lengths
        if kind == ALL or not depths:
            continue
        shares = {
            (lengths.index(length), depths.index(depth)): score.value
            for (length, depth), score in grid.cells.items()
            if depth != EVERY
        }
        draw = partial(
            heat_map,
            [f"{length:,}" for length in lengths],
            [f"{depth} %" for depth in depths],
            shares,
            x_label="tokens of the text",
            y_label="depth of the needle",
        )
        yield drawn(f"{title}: {kind}", f"needles-{number}-{place + 1}", draw, SMALL)


def _band(row: dict[int, Score]) -> list[tuple[float, float, float]]:
    return [
        (float(distance), score.low, score.high)
        for distance, score in sorted(row.items())
        if score.low is not None and score.high is not None
    ]
