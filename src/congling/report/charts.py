"""Line charts as SVG: readable axes, a legend, horizontal reference lines; no plotting library.

Colours are CSS variables, so that a page can switch between light and dark; ``standalone`` adds a
style of its own, for a file that is shown as a picture. What is no curve stays out of the plane: names of
series stand above it, those of reference lines at their right ends::

    ── training  ── held-out
    │╲______
    │╌╌╌╌╌╌╌╌╲___╌╌╌╌╌╌ bigram 6.94
    └──────────────────
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

from congling.report.plane import BOTTOM, LEFT, TOP, Plane, axes, log_ticks, ticks

_RIGHT = 18  # margin where no reference line has its name
_LETTER, _WIDE = 7, 12  # units that a letter takes, and a Chinese character
COLOURS = tuple(f"--c{i}" for i in range(1, 9))
_MOST_POINTS = 600
_LINE, _LONGEST_NAME = 18, 40  # of the legend: units from line to line, characters of a name

_STANDALONE = """<style>
svg{--ink:#23272f;--soft:#6b7280;--grid:#e5e7eb;--paper:#fff;--c1:#2563eb;--c2:#d9480f;--c3:#0f766e;--c4:#9333ea;--c5:#b7791f;--c6:#be185d;--c7:#4d7c0f;--c8:#475569;background:var(--paper)}
@media(prefers-color-scheme:dark){svg{--ink:#e8eaed;--soft:#9aa3af;--grid:#2f3540;--paper:#14171c;--c1:#7aa2ff;--c2:#ff9f68;--c3:#5fd0c0;--c4:#c99bff;--c5:#ecc94b;--c6:#f687b3;--c7:#a3d65c;--c8:#b6c2d1}}
text{font:12px system-ui,-apple-system,"Segoe UI","PingFang SC","Noto Sans CJK SC",
"Microsoft YaHei",sans-serif}
</style>"""


@dataclass(frozen=True)
class Series:
    """One line: points in order of x; ``dots`` marks each, for few points; ``faint`` draws it thin."""

    name: str
    points: Sequence[tuple[float, float]]
    dots: bool = False
    faint: bool = False
    band: Sequence[tuple[float, float, float]] = ()
    """(x, low, high) in order of x: an area behind the line, such as its interval."""


@dataclass(frozen=True)
class Reference:
    """A horizontal line with a name."""

    name: str
    value: float


def line_chart(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    references: Sequence[Reference] = (),
    y_range: tuple[float, float] | None = None,
    log_x: bool = False,
    size: tuple[int, int] = (720, 320),
    standalone: bool = False,
) -> str:
    """Draw series over a common x axis as one ``<svg>`` element; points that are not finite are left out.

    On a logarithmic axis (``log_x``) so are those at 0 and below; the numbers at it are doublings.
    References outside the drawn range are left out too. ``size`` is in the units of the 12-unit lettering,
    and that of a chart without a legend: its lines are added to the height. A series has the colour of its
    place, also where one before it has no points.
    """
    several = len(series) > 1  # where one of them is empty, too, the name says which is drawn
    series = [_drawable(one, log_x) for one in series]
    coloured = [(one, COLOURS[i % len(COLOURS)]) for i, one in enumerate(series) if one.points]
    series = [one for one, _ in coloured]
    if not series:
        return _empty(size, standalone)
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    ys += [end for one in series for _, *ends in one.band for end in ends]
    low, high = y_range or _range(ys, references)
    legend, lines = _legend(coloured, size[0]) if several else ("", 0)
    x_ticks = (log_ticks if log_x else ticks)(min(xs), max(xs), max(4, size[0] // 110))
    y_ticks = ticks(low, high, size[1] // 50)
    low, high = min(low, y_ticks[0]), max(high, y_ticks[-1])
    drawn = [line for line in references if low <= line.value <= high]
    size = (size[0], size[1] + _LINE * lines)
    plane = Plane(
        min(xs),
        max(max(xs), min(xs) + 1e-9 * max(1.0, abs(min(xs)))),
        low,
        high,
        size[0] - max([_RIGHT, *(_room(_named(line)) for line in drawn)]),
        size[1] - BOTTOM,
        TOP + _LINE * lines,
        log_x,
    )
    parts = [axes(plane, x_ticks, y_ticks, x_label, y_label), *_references(plane, drawn)]
    parts += [_band(plane, one, colour) for one, colour in coloured]
    parts += [_line(plane, one, colour) for one, colour in coloured]
    return svg("".join([*parts, legend]), f"{y_label} against {x_label}", size, standalone)


def _drawable(one: Series, log_x: bool) -> Series:
    """What of a series can be drawn."""
    points = [(x, y) for x, y in finite(one.points) if x > 0 or not log_x]
    band = [row for row in one.band if all(map(math.isfinite, row)) and (row[0] > 0 or not log_x)]
    return replace(one, points=thinned(points), band=band)


def finite(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Leave out points with a NaN or an infinity."""
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def thinned(points: Sequence[tuple[float, float]], most: int = _MOST_POINTS) -> list[tuple[float, float]]:
    """At most ``most`` points: means of equal groups, so that a long curve is smoothed, not sampled."""
    if len(points) <= most:
        return list(points)
    edges = [round(i * len(points) / most) for i in range(most + 1)]
    groups = [points[start:end] for start, end in itertools.pairwise(edges)]
    return [
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups
    ]


def _range(values: Sequence[float], references: Sequence[Reference]) -> tuple[float, float]:
    """Cover nearly all values (a few wild first ones may leave the picture) and references near them."""
    order = sorted(values)
    low, high = order[0], order[max(0, math.ceil(0.995 * len(order)) - 1)]
    margin = 0.35 * (high - low) or 0.5
    near = [line.value for line in references if low - 2 * margin <= line.value <= high + 2 * margin]
    low, high = min([low, *near]), max([high, *near])
    pad = 0.04 * (high - low) or 0.5
    return (max(0.0, low - pad) if low >= 0 else low - pad), high + pad


def _references(plane: Plane, lines: Sequence[Reference]) -> list[str]:
    """Dashed lines; labels at the right keep a line's height apart."""
    parts, right = [], plane.end
    previous = math.inf
    for line in sorted(lines, key=lambda one: one.value):
        y = plane.y(line.value)
        label = min(y + 4, previous - 14)
        previous = label
        parts.append(
            f'<line x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--soft)" '
            f'stroke-dasharray="5 4"/>'
        )
        parts.append(
            f'<text x="{right + 6}" y="{label:.1f}" fill="var(--soft)">{escape(_named(line))}</text>'
        )
    return parts


def _named(line: Reference) -> str:
    return f"{line.name} {line.value:.2f}"


def _room(text: str) -> int:
    """Units that a text takes beside the plane, with the space around it."""
    return 12 + sum(_WIDE if ord(letter) > 0x2E7F else _LETTER for letter in text)


def _band(plane: Plane, one: Series, colour: str) -> str:
    """The area between the low and high ends, within the picture."""
    if not one.band:
        return ""
    above = [(x, high) for x, _, high in one.band]
    below = [(x, low) for x, low, _ in reversed(one.band)]
    corners = " ".join(
        f"{plane.x(x):.1f},{min(max(plane.y(y), plane.top), plane.bottom):.1f}" for x, y in [*above, *below]
    )
    return f'<polygon points="{corners}" fill="var({colour})" opacity="0.15"/>'


def _line(plane: Plane, one: Series, colour: str) -> str:
    inside = [(plane.x(x), max(plane.top - 4.0, plane.y(y))) for x, y in one.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in inside)
    weight = 1.4 if one.faint else 2.2
    opacity = 0.75 if one.faint else 1
    style = f'stroke="var({colour})" stroke-width="{weight}" opacity="{opacity}" stroke-linejoin="round"'
    drawn = f'<polyline points="{path}" fill="none" {style}/>'
    if one.dots:
        drawn += "".join(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="var({colour})"/>' for x, y in inside
        )
    return drawn


def _legend(coloured: Sequence[tuple[Series, str]], width: float) -> tuple[str, int]:
    """Names side by side over the plane, and how many lines they take."""
    parts: list[str] = []
    x, line = float(LEFT), 0
    for one, colour in coloured:
        name = one.name if len(one.name) <= _LONGEST_NAME else one.name[: _LONGEST_NAME - 1] + "…"
        needed = 34 + _room(name)
        if parts and x + needed > width:
            x, line = float(LEFT), line + 1
        parts.append(_entry(x, TOP - 4 + _LINE * line, name, colour))
        x += needed
    return "".join(parts), line + 1


def _entry(x: float, y: float, name: str, colour: str) -> str:
    return (
        f'<line x1="{x}" x2="{x + 22}" y1="{y}" y2="{y}" stroke="var({colour})" stroke-width="3"/>'
        f'<text x="{x + 28}" y="{y + 4}" fill="var(--ink)">{escape(name)}</text>'
    )


def _empty(size: tuple[int, int], standalone: bool) -> str:
    return svg(
        f'<text x="{size[0] / 2}" y="{size[1] / 2}" '
        'text-anchor="middle" fill="var(--soft)">nothing recorded</text>',
        "nothing recorded",
        size,
        standalone,
    )


def svg(content: str, title: str, size: tuple[int, int], standalone: bool) -> str:
    """A whole picture; ``standalone`` with a style of its own, for light and dark."""
    style = _STANDALONE if standalone else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" role="img" '
        f'aria-label="{escape(title)}">'
        f"{style}{content}</svg>"
    )
