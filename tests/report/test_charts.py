"""Charts are well-formed SVG whose lines lie where the numbers say."""

import math
import re
from xml.etree import ElementTree

import pytest

from congling.report.charts import Reference, Series, line_chart, number, thinned, ticks


def chart(points, **options) -> str:
    return line_chart([Series("loss <&>", points)], x_label="tokens", y_label="bits", **options)


def test_higher_values_are_drawn_higher():
    svg = chart([(0, 1.0), (1, 2.0), (2, 3.0)], standalone=True)
    ElementTree.fromstring(svg)
    found = re.search(r'polyline points="([^"]+)"', svg)
    assert found
    heights = [float(point.split(",")[1]) for point in found[1].split()]
    assert heights == sorted(heights, reverse=True) and len(heights) == 3


def test_points_that_are_not_finite_are_left_out():
    svg = chart([(0, math.nan), (1, 2.0), (2, math.inf), (3, 1.0)])
    assert "nan" not in svg and "inf" not in svg
    assert "nothing recorded" in chart([(0, math.nan)])


@pytest.mark.parametrize(
    "points", [[(5, 2.0)], [(0, 0.0), (1, 0.0)], [(0, 1e-9), (1, 1e9)], [(0, -3), (1e12, 4)]]
)
def test_odd_ranges_still_draw(points):
    ElementTree.fromstring(chart(points))


def test_references_far_away_do_not_squeeze_the_curve():
    points = [(step, 3 + 1 / step) for step in range(1, 50)]
    svg = chart(points, references=[Reference("bigram", 3.6), Reference("uniform", 900.0)])
    assert "bigram 3.60" in svg and "uniform" not in svg


def test_long_curves_are_averaged():
    points = thinned([(i, float(i % 2)) for i in range(10_000)], 100)
    assert len(points) == 100 and all(value == pytest.approx(0.5) for _, value in points)


def test_ticks_are_round():
    assert ticks(0.03, 0.97, 5) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert [number(value) for value in (0, 0.02, 1500, 2_000_000)] == ["0", "0.02", "1.5k", "2M"]
