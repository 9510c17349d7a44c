"""Charts are well-formed SVG whose lines lie where the numbers say."""

import itertools
import math
import re
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree

import pytest

from congling.report.charts import Reference, Series, line_chart, thinned
from congling.report.drawing import LARGE, NARROW, SMALL
from congling.report.drawing import chart as picture
from congling.report.plane import log_ticks, number, ticks


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


def corners(svg: str, shape: str) -> list[tuple[float, float]]:
    found = re.search(rf'{shape} points="([^"]+)"', svg)
    assert found
    return [(float(x), float(y)) for x, y in (point.split(",") for point in found[1].split())]


def test_equal_factors_are_equally_far_apart_on_a_logarithmic_axis():
    svg = chart([(0, 9.0), (64, 3.0), (128, 2.0), (256, 1.5), (1024, 1.0)], log_x=True)
    places = [x for x, _ in corners(svg, "polyline")]
    steps = [second - first for first, second in itertools.pairwise(places)]
    assert steps == pytest.approx([steps[0], steps[0], 2 * steps[0]], abs=0.2)  # 0 has no place
    assert {"64", "512", "1,024"} <= set(re.findall(r">([\d,]+)<", svg))
    ElementTree.fromstring(chart([(7, 1.0)], log_x=True))
    assert "nothing recorded" in chart([(-1, 1.0), (0, 2.0)], log_x=True)


@pytest.mark.parametrize(("most", "step"), [(9, 1), (6, 1), (5, 2), (3, 2), (2, 3), (1, 6)])
def test_doublings_are_thinned_evenly(most: int, step: int):
    assert log_ticks(64, 2048, most) == [64 * 2**power for power in range(0, 6, step)]


def test_a_band_lies_around_its_line():
    band = [(0, 0.5, 1.5), (1, 1.0, math.nan), (2, 2.5, 9.0)]
    series = Series("one", [(0, 1.0), (1, 2.0), (2, 3.0)], band=band)
    svg = line_chart([series], x_label="x", y_label="y")
    line, area = corners(svg, "polyline"), corners(svg, "polygon")
    assert [x for x, _ in area] == [line[0][0], line[2][0], line[2][0], line[0][0]]
    assert area[0][1] < line[0][1] < area[3][1] and area[1][1] < line[2][1] < area[2][1]
    cut = corners(line_chart([series], x_label="x", y_label="y", y_range=(0, 4)), "polygon")
    assert min(y for _, y in cut) >= 16  # what leaves the picture is cut off at its edge


SVG = "{http://www.w3.org/2000/svg}"


def declarations(css: str) -> dict[str, dict[str, str]]:
    """Every rule of a style sheet by its selector, read as strictly as a browser reads it.

    A string that is not closed in its line, or a declaration without a name or a value, makes a browser drop
    the declaration or all that follows: here it is an error.
    """
    found: dict[str, dict[str, str]] = {}
    for line in css.splitlines():
        assert line.count('"') % 2 == 0, f"a string goes on behind the end of its line: {line[-60:]}"
    plain = re.sub(r'"[^"\n]*"', lambda one: "s" * len(one[0]), css)
    assert plain.count("{") == plain.count("}")
    for rule in re.finditer(r"([^{}]+)\{([^{}]*)\}", plain):
        selector = css[rule.start(1) : rule.end(1)].strip()
        for part in filter(None, rule[2].split(";")):
            name, colon, value = part.strip().partition(":")
            assert colon and value.strip() and re.fullmatch(r"-{0,2}[a-z][a-z0-9-]*", name), part
            found.setdefault(selector, {})[name] = value.strip()
    return found


def test_every_rule_of_every_style_sheet_is_read():
    page = declarations((files("congling.report") / "style.css").read_text("utf-8"))
    svg = line_chart([Series("a", [(0, 1.0), (1, 2.0)])], x_label="x", y_label="y", standalone=True)
    style = ElementTree.fromstring(svg).findtext(f"{SVG}style")
    assert style is not None
    alone = declarations(style)
    assert alone["text"]["font"].startswith("12px ") and page["svg text"]["font"].startswith("12px ")
    used = set(re.findall(r"var\((--[a-z0-9]+)\)", svg + line_chart([], x_label="x", y_label="y")))
    assert used and used <= alone["svg"].keys() and used <= page[":root"].keys()


def test_a_narrow_page_shows_narrow_pictures_and_where_tables_go_on():
    css = (files("congling.report") / "style.css").read_text("utf-8")
    rules = declarations(css)
    assert rules[".scroll"]["overflow-x"] == "auto"
    assert rules[".scroll"]["background"].count("linear-gradient") == 4, "a shade at each end, and its cover"
    assert rules[".chart"]["container-type"] == "inline-size" and rules[".chart .narrow"]["display"] == "none"
    for kind, (size, _) in {"large": LARGE, "small": SMALL}.items():
        found = re.search(
            rf"@container \(max-width:(\d+)px\)\{{\.chart\.{kind} \.wide\{{display:none\}}", css
        )
        assert found and 12 * int(found[1]) / size > 8, "letters of the wide one are no smaller where it goes"
        assert rules[f".chart.{kind} .narrow"]["display"] == "block"


def test_the_pictures_of_the_guides_are_read_as_well():
    pictures = list((Path(__file__).parents[2] / "docs/images").glob("*.svg"))
    assert pictures
    for file in pictures:
        style = ElementTree.parse(file).getroot().findtext(f"{SVG}style")
        assert style is not None and "text" in declarations(style), file.name


def test_a_string_broken_over_lines_is_noticed():
    with pytest.raises(AssertionError, match="behind the end"):
        declarations('text{font:12px "Segoe\nUI",serif}')


def lines_and_names(svg: str):
    """Where the plane is, and each text with the box it takes, about."""
    drawn = ElementTree.fromstring(svg)
    width, height = map(float, drawn.attrib["viewBox"].split()[2:])
    grid = [one for one in drawn.iter(f"{SVG}line") if one.get("stroke") == "var(--grid)"]
    top = min(float(one.attrib["y1"]) for one in grid)
    right = max(float(one.attrib["x2"]) for one in grid)
    texts = {
        one.text: (float(one.attrib["x"]), float(one.attrib["y"]))
        for one in drawn.iter(f"{SVG}text")
        if "x" in one.attrib
    }
    return width, height, top, right, texts


@pytest.mark.parametrize("size", [LARGE, SMALL, NARROW])
def test_names_stay_out_of_the_plane(size):
    steps = range(1, 50)
    series = [Series(name, [(step, 9 / step) for step in steps]) for name in ("training", "held-out (验证)")]
    references = [Reference("uniform", 8.5), Reference("unigram", 7.9), Reference("二元", 0.4)]
    svg = line_chart(series, x_label="x", y_label="y", references=references, size=size)
    width, _, top, right, texts = lines_and_names(svg)
    for name in ("training", "held-out (验证)"):
        assert texts[name][1] < top - 4, "the legend stands above the plane"
    for reference in references:
        name = f"{reference.name} {reference.value:.2f}"
        assert texts[name][0] > right, "the name of a line stands behind its end"
        assert texts[name][0] + 6.2 * len(name) < width


def test_letters_keep_their_size_on_a_telephone():
    drawn = picture("Loss", "loss", [Series("a", [(0, 1.0), (1, 2.0)])], x_label="x", y_label="y", size=LARGE)
    widths = [
        float(ElementTree.fromstring(svg).attrib["viewBox"].split()[2]) for svg in (drawn.svg, drawn.narrow)
    ]
    page, telephone = 1020, 352  # what a page leaves for a picture at 1280 and at 400 pixels
    assert all(11 <= 12 * room / width <= 15 for room, width in zip((page, telephone), widths, strict=True))
