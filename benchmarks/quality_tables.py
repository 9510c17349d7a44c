"""Curves of held-out bits/character as tables and as a picture."""

from congling.core.units import show_seconds
from congling.report.charts import Series, line_chart
from heldout import Curve
from reporting import Table

TARGETS = (6.6, 6.2, 6.0, 5.8)


def picture(curves: list[Curve]) -> str:
    """Bits/character over minutes, one line a contender's run; congling's line joins the ends of its runs."""
    ends = sorted(point for curve in curves if curve.contender == "congling" for point in curve.points)
    lines = {"congling": ends} | {
        f"{curve.contender}, {show_seconds(curve.budget)}": curve.points
        for curve in curves
        if curve.contender != "congling"
    }
    series = [
        Series(name, [(at / 60, bits) for at, bits in points], dots=True) for name, points in lines.items()
    ]
    return line_chart(series, x_label="minutes", y_label="held-out bits/character", standalone=True)


def scores(curves: list[Curve]) -> Table:
    """Where every run ended, and when it passed each target."""
    columns = (
        "contender",
        "budget",
        "parameters",
        "clock at the end",
        "bits/character",
        *(f"to {target}" for target in TARGETS),
    )
    table = Table("Held-out bits/character of 红楼梦 73-80", columns)
    for curve in sorted(curves, key=lambda curve: (curve.contender, curve.budget)):
        end, bits = curve.points[-1]
        reached = [_shown(curve.seconds_to(target)) for target in TARGETS]
        size = f"{curve.settings['parameters'] / 1e6:.1f} M"
        table.rows.append(
            (curve.contender, show_seconds(curve.budget), size, show_seconds(end), f"{bits:.3f}", *reached)
        )
    table.notes += [
        "The clock starts with the process: imports, tokenizer and compiling count. Held-out scores are off "
        "the clock, but those that congling takes during its run are on it.",
        "All are scored alike: every token of the held-out chapters once, in windows of the model's context "
        "that overlap by half; ends of chapters count as tokens, only characters divide.",
        "congling has one point a budget, its end; elsewhere times are interpolated between scores.",
    ]
    return table


def speedups(curves: list[Curve]) -> Table:
    """How many times sooner congling is at each target; by each contender's best run."""
    names = sorted({curve.contender for curve in curves} - {"congling"})
    table = Table(
        "Time to the same bits/character, as a multiple of congling's", ("contender", *map(str, TARGETS))
    )
    ours = {target: _first([c for c in curves if c.contender == "congling"], target) for target in TARGETS}
    for name in names:
        theirs = [curve for curve in curves if curve.contender == name]
        longest = max(curve.points[-1][0] for curve in theirs)
        cells = []
        for target in TARGETS:
            mine, other = ours[target], _first(theirs, target)
            cells.append(
                "–" if mine is None else f"{other / mine:.1f}×" if other else f"> {longest / mine:.1f}×"
            )
        table.rows.append((name, *cells))
    table.notes.append("“>”: not reached within the contender's longest run. “–”: congling did not reach it.")
    return table


def _first(curves: list[Curve], target: float) -> float | None:
    times = [found for curve in curves if (found := curve.seconds_to(target)) is not None]
    return min(times, default=None)


def _shown(value: float | None) -> str:
    return "not reached" if value is None else show_seconds(value)
