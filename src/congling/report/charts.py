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
from dataclasses import dataclass
from html import escape

_LEFT, _TOP, _BOTTOM = 66, 16, 44
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
    size: tuple[int, int] = (720, 320),
    standalone: bool = False,
) -> str:
    """Draw series over a common x axis as one ``<svg>`` element; points that are not finite are left out.

    References outside the drawn range are left out too. ``size`` is in the units of the 12-unit lettering,
    and that of a chart without a legend: its lines are added to the height. A series has the colour of its
    place, also where one before it has no points.
    """
    several = len(series) > 1  # where one of them is empty, too, the name says which is drawn
    series = [Series(one.name, thinned(finite(one.points)), one.dots, one.faint) for one in series]
    coloured = [(one, COLOURS[i % len(COLOURS)]) for i, one in enumerate(series) if one.points]
    series = [one for one, _ in coloured]
    if not series:
        return _empty(size, standalone)
    xs = [x for one in series for x, _ in one.points]
    low, high = y_range or _range([y for one in series for _, y in one.points], references)
    legend, lines = _legend(coloured, size[0]) if several else ("", 0)
    x_ticks, y_ticks = ticks(min(xs), max(xs), max(4, size[0] // 110)), ticks(low, high, size[1] // 50)
    low, high = min(low, y_ticks[0]), max(high, y_ticks[-1])
    drawn = [line for line in references if low <= line.value <= high]
    size = (size[0], size[1] + _LINE * lines)
    frame = _Frame(
        min(xs),
        max(max(xs), min(xs) + 1e-9 * max(1.0, abs(min(xs)))),
        low,
        high,
        size[0] - max([_RIGHT, *(_room(_named(line)) for line in drawn)]),
        size[1] - _BOTTOM,
        _TOP + _LINE * lines,
    )
    parts = [_axes(frame, x_ticks, y_ticks, x_label, y_label), *_references(frame, drawn)]
    parts += [_line(frame, one, colour) for one, colour in coloured]
    return _svg("".join([*parts, legend]), f"{y_label} against {x_label}", size, standalone)


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


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers at equal distances from at or below ``low`` to at or above ``high``.

    >>> ticks(0, 10, 5)
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return [low, low + (abs(low) or 1.0)]
    raw = span / max(1, about)
    magnitude = 10 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def number(value: float) -> str:
    """Short text of a tick: ``1.5M``, ``20k``, ``0.02``."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


@dataclass(frozen=True)
class _Frame:
    """Maps data to the plane of the drawing."""

    left: float
    right: float
    low: float
    high: float
    end: float
    """Right end of the plane."""
    bottom: float
    top: float = _TOP

    def x(self, value: float) -> float:
        return _LEFT + (value - self.left) / (self.right - self.left) * (self.end - _LEFT)

    def y(self, value: float) -> float:
        return self.bottom - (value - self.low) / (self.high - self.low) * (self.bottom - self.top)


def _range(values: Sequence[float], references: Sequence[Reference]) -> tuple[float, float]:
    """Cover nearly all values (a few wild first ones may leave the picture) and references near them."""
    order = sorted(values)
    low, high = order[0], order[max(0, math.ceil(0.995 * len(order)) - 1)]
    margin = 0.35 * (high - low) or 0.5
    near = [line.value for line in references if low - 2 * margin <= line.value <= high + 2 * margin]
    low, high = min([low, *near]), max([high, *near])
    pad = 0.04 * (high - low) or 0.5
    return (max(0.0, low - pad) if low >= 0 else low - pad), high + pad


def _axes(
    frame: _Frame, x_ticks: Sequence[float], y_ticks: Sequence[float], x_label: str, y_label: str
) -> str:
    bottom, right = frame.bottom, frame.end
    parts = []
    for value in y_ticks:
        y = frame.y(value)
        parts.append(f'<line x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--grid)"/>')
        parts.append(
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" '
            f'fill="var(--soft)">{number(value)}</text>'
        )
    for value in x_ticks:
        if frame.left <= value <= frame.right:
            x = frame.x(value)
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}" stroke="var(--soft)"/>'
            )
            parts.append(
                f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle" '
                f'fill="var(--soft)">{number(value)}</text>'
            )
    parts.append(f'<line x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}" stroke="var(--soft)"/>')
    parts.append(
        f'<text x="{(_LEFT + right) / 2}" y="{bottom + 36}" text-anchor="middle" '
        f'fill="var(--ink)">{escape(x_label)}</text>'
    )
    middle = (frame.top + bottom) / 2
    parts.append(
        f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle" '
        f'fill="var(--ink)">{escape(y_label)}</text>'
    )
    return "".join(parts)


def _references(frame: _Frame, lines: Sequence[Reference]) -> list[str]:
    """Dashed lines; labels at the right keep a line's height apart."""
    parts, right = [], frame.end
    previous = math.inf
    for line in sorted(lines, key=lambda one: one.value):
        y = frame.y(line.value)
        label = min(y + 4, previous - 14)
        previous = label
        parts.append(
            f'<line x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--soft)" '
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


def _line(frame: _Frame, one: Series, colour: str) -> str:
    inside = [(frame.x(x), max(frame.top - 4.0, frame.y(y))) for x, y in one.points]
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
    x, line = float(_LEFT), 0
    for one, colour in coloured:
        name = one.name if len(one.name) <= _LONGEST_NAME else one.name[: _LONGEST_NAME - 1] + "…"
        needed = 34 + _room(name)
        if parts and x + needed > width:
            x, line = float(_LEFT), line + 1
        parts.append(_entry(x, _TOP - 4 + _LINE * line, name, colour))
        x += needed
    return "".join(parts), line + 1


def _entry(x: float, y: float, name: str, colour: str) -> str:
    return (
        f'<line x1="{x}" x2="{x + 22}" y1="{y}" y2="{y}" stroke="var({colour})" stroke-width="3"/>'
        f'<text x="{x + 28}" y="{y + 4}" fill="var(--ink)">{escape(name)}</text>'
    )


def _empty(size: tuple[int, int], standalone: bool) -> str:
    return _svg(
        f'<text x="{size[0] / 2}" y="{size[1] / 2}" '
        'text-anchor="middle" fill="var(--soft)">nothing recorded</text>',
        "nothing recorded",
        size,
        standalone,
    )


def _svg(content: str, title: str, size: tuple[int, int], standalone: bool) -> str:
    style = _STANDALONE if standalone else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" role="img" '
        f'aria-label="{escape(title)}">'
        f"{style}{content}</svg>"
    )
