"""A chart as a page needs it: wide, narrow for a telephone, and as a file of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from congling.report.charts import Series, line_chart

LARGE, SMALL, NARROW = (940, 320), (480, 270), (340, 250)
"""Sizes: of a chart that fills the page, of two in a row, and of any where the page is narrow. Each is drawn
at about its own width, so that letters keep their size instead of shrinking with the picture."""


@dataclass(frozen=True)
class Chart:
    """A picture: two inline for the page, of which it shows the one that fits, and one for a file."""

    title: str
    file: str
    svg: str
    narrow: str
    standalone: str


def chart(
    title: str, name: str, series: Sequence[Series], *, size: tuple[int, int] = LARGE, **options: Any
) -> Chart:
    """Draw a chart all three ways; ``options`` as :func:`congling.report.charts.line_chart` takes them."""
    return drawn(title, name, partial(line_chart, series, **options), size)


def drawn(title: str, name: str, draw: Callable[..., str], size: tuple[int, int] = LARGE) -> Chart:
    """Draw all three ways; ``draw`` takes ``size`` and ``standalone`` and gives an ``<svg>`` element."""
    return Chart(title, f"{name}.svg", draw(size=size), draw(size=NARROW), draw(size=size, standalone=True))
