"""Shares over two axes as a grid of cells, SVG: the number stands in each, and its colour says the same.

::

            128   256   512  1024
      0 %  │ 98 │  97 │  91 │  40 │
    100 %  │100 │ 100 │  99 │  98 │
"""

from collections.abc import Mapping, Sequence
from html import escape

from congling.report.charts import svg
from congling.report.plane import LEFT, TOP

_BELOW, _RIGHT = 44, 18
_FAINTEST, _STRONGEST = 0.05, 0.5  # of the colour: letters stay readable on it, by day and by night


def heat_map(
    columns: Sequence[str],
    rows: Sequence[str],
    shares: Mapping[tuple[int, int], float],
    *,
    x_label: str,
    y_label: str,
    size: tuple[int, int] = (480, 270),
    standalone: bool = False,
) -> str:
    """Draw shares (column, row) from 0 to 1 as one ``<svg>`` element; cells without one stay empty."""
    width, height = (size[0] - LEFT - _RIGHT) / len(columns), (size[1] - TOP - _BELOW) / len(rows)
    parts: list[str] = []
    for (column, row), share in shares.items():
        x, y, value = LEFT + column * width, TOP + row * height, min(1.0, max(0.0, share))
        opacity = _FAINTEST + (_STRONGEST - _FAINTEST) * value
        parts.append(
            f'<rect x="{x + 1:.1f}" y="{y + 1:.1f}" width="{width - 2:.1f}" height="{height - 2:.1f}" '
            f'fill="var(--c1)" fill-opacity="{opacity:.3f}" stroke="var(--grid)"/>'
        )
        parts.append(_text(x + width / 2, y + height / 2 + 4, f"{100 * value:.0f}", "ink"))
    for column, name in enumerate(columns):
        parts.append(_text(LEFT + (column + 0.5) * width, size[1] - _BELOW + 18, name, "soft"))
    for row, name in enumerate(rows):
        parts.append(_text(LEFT - 8, TOP + (row + 0.5) * height + 4, name, "soft", "end"))
    parts.append(_text((LEFT + size[0] - _RIGHT) / 2, size[1] - _BELOW + 36, x_label, "ink"))
    middle = (TOP + size[1] - _BELOW) / 2
    parts.append(
        f'<text transform="translate(14 {middle:.1f}) rotate(-90)" text-anchor="middle" '
        f'fill="var(--ink)">{escape(y_label)}</text>'
    )
    return svg("".join(parts), f"{y_label} by {x_label}, per cent right", size, standalone)


def _text(x: float, y: float, text: str, colour: str, anchor: str = "middle") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="var(--{colour})">{escape(text)}</text>'
    )
