"""The plane of a chart: where numbers lie in it, round numbers for its axes, and how the axes are drawn."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

LEFT, TOP, BOTTOM = 66, 16, 44
"""Margins beside the plane."""


@dataclass(frozen=True)
class Plane:
    """Maps data to the plane of the drawing."""

    left: float
    right: float
    low: float
    high: float
    end: float
    """Right end of the plane."""
    bottom: float
    top: float = TOP
    log_x: bool = False
    """Equal factors of x are equally far apart."""

    def x(self, value: float) -> float:
        """Where a number lies from left to right."""
        place, left, right = (
            (math.log(one) if self.log_x else one) for one in (value, self.left, self.right)
        )
        return LEFT + (place - left) / (right - left) * (self.end - LEFT)

    def y(self, value: float) -> float:
        """Where a number lies from top to bottom."""
        return self.bottom - (value - self.low) / (self.high - self.low) * (self.bottom - self.top)


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


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """``low`` (above 0), twice it and so on up to ``high``: each, or every second, third … of them.

    >>> log_ticks(64, 2100, 9), log_ticks(64, 2100, 3)
    ([64, 128, 256, 512, 1024, 2048], [64, 256, 1024])
    """
    doublings = math.floor(math.log2(high / low) + 1e-9)
    step = math.ceil((doublings + 1) / max(1, most))
    return [low * 2**power for power in range(0, doublings + 1, step)]


def number(value: float) -> str:
    """Short text of a tick: ``1.5M``, ``20k``, ``0.02``."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


def axes(plane: Plane, x_ticks: Sequence[float], y_ticks: Sequence[float], x_label: str, y_label: str) -> str:
    """Both axes with their numbers and names, and the grid."""
    bottom, right = plane.bottom, plane.end
    parts = []
    for value in y_ticks:
        y = plane.y(value)
        parts.append(f'<line x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--grid)"/>')
        parts.append(
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" '
            f'fill="var(--soft)">{number(value)}</text>'
        )
    for value in x_ticks:
        if plane.left <= value <= plane.right:
            x, whole = plane.x(value), plane.log_x and value == int(value)
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}" stroke="var(--soft)"/>'
            )
            parts.append(
                f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle" '
                f'fill="var(--soft)">{f"{value:,.0f}" if whole else number(value)}</text>'
            )
    parts.append(f'<line x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}" stroke="var(--soft)"/>')
    parts.append(
        f'<text x="{(LEFT + right) / 2}" y="{bottom + 36}" text-anchor="middle" '
        f'fill="var(--ink)">{escape(x_label)}</text>'
    )
    middle = (plane.top + bottom) / 2
    parts.append(
        f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle" '
        f'fill="var(--ink)">{escape(y_label)}</text>'
    )
    return "".join(parts)
