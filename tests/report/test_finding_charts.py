"""Copies and needles as pictures: every cell has its number, every distance its interval."""

import re
from typing import Any
from xml.etree import ElementTree

from congling.evals.needle_scores import Answered, Cell, scores
from congling.evals.scores import Score, share
from congling.report.recorded_scores import SCORES, score_tables
from congling.report.score_charts import score_charts


def results(found: list[Score]) -> dict[str, Any]:
    return {SCORES: {score.label: score.to_json() | {"step": 7} for score in found}}


def needles() -> list[Score]:
    cells = [
        Cell(kind, length, depth, [Answered(i < length // 64 + depth // 50, False) for i in range(10)])
        for kind in ("single", "counting")
        for length in (128, 256)
        for depth in (0, 50, 100)
    ]
    return scores(cells, 128)


def test_needles_are_a_map_for_each_kind_with_the_numbers_in_its_cells():
    charts = list(score_charts(results(needles())))
    assert [chart.title for chart in charts] == ["needles: single", "needles: counting"]
    assert len({chart.file for chart in charts}) == 2
    for picture in (charts[0].svg, charts[0].narrow, charts[0].standalone):
        root = ElementTree.fromstring(picture)
        texts = [element.text for element in root.iter() if element.tag.endswith("text")]
        assert {"20", "30", "40", "50", "60", "128", "256", "0 %", "100 %"} <= set(texts)
        assert len([one for one in root.iter() if one.tag.endswith("rect")]) == 6
    strengths = [float(value) for value in re.findall(r'fill-opacity="([\d.]+)"', charts[0].svg)]
    assert strengths == sorted(strengths) and max(strengths) <= 0.5
    assert "prefers-color-scheme:dark" in charts[0].standalone and "<style>" not in charts[0].svg
    (table,) = score_tables(results(needles()))
    assert table.head == ("needles", "depth", "128", "256")


def test_copies_are_a_line_over_distance_with_its_interval():
    found = [
        share(f"copying-at-distance/raw/{distance}{what}", [True] * hits + [False] * (10 - hits), "how")
        for distance, hits in ((64, 10), (128, 8), (256, 1))
        for what in ("", "/tokens", "/control")
    ]
    (chart,) = score_charts(results(found))
    assert chart.svg.count("<polyline") == 3 and "whole segment" in chart.svg and ">128<" in chart.svg
    assert chart.svg.count("<circle") == 3 and "<polygon" in chart.svg
    assert not list(score_charts(results([share("copying-at-distance/x/y", [True], "")])))
