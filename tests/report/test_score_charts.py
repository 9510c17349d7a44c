"""Scores in ``results.json`` reach the page: as tables, and as a curve over tokens read."""

import itertools
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from congling.core import artifact
from congling.evals.scores import Score
from congling.report import checkpoint_content, pages, record
from congling.report.recorded_scores import SCORES, measured, score_tables
from congling.report.score_charts import score_charts
from support import tiny_checkpoint


def results(scores: list[Score], step: object = None) -> dict[str, Any]:
    return {SCORES: {score.label: score.to_json() | {"step": step} for score in scores}}


def curve(data: str = "", plain: float = 9.0) -> list[Score]:
    """Losses 3.2, 3.0 (L = 16), 2.9, 2.8; the line to beat 2.95; failing beyond."""
    losses = {8: 3.2, 16: 3.0, 32: 2.9, 64: 2.8}

    def score(name: str, value: float, *ends: float, reference: bool = False) -> Score:
        return Score(f"length/{name}", value, 9, "nats/token", "how", *ends, reference=reference, data=data)

    found = [score(f"nats/{n}", loss) for n, loss in losses.items()]
    for n in (8, 32, 64):
        gain = 3.0 - losses[n]
        found.append(score(f"gain/{n}", gain, gain - 0.05, gain + 0.05))
    found.append(score("sliding", 2.95, reference=True))
    for n in (32, 64):
        found.append(score(f"plain/{n}", plain, reference=True))
    return found


def lines(svg: str) -> list[list[tuple[float, float]]]:
    return [
        [(float(x), float(y)) for x, y in (point.split(",") for point in one.split())]
        for one in re.findall(r'polyline points="([^"]+)"', svg)
    ]


def test_the_curve_its_band_and_the_line_to_beat():
    (drawn,) = score_charts(results(curve()))
    for svg in (drawn.svg, drawn.narrow, drawn.standalone):
        ElementTree.fromstring(svg)
    own, sliding, plain = lines(drawn.svg)
    steps = [second[0] - first[0] for first, second in itertools.pairwise(own)]
    assert steps == pytest.approx([steps[0]] * 3, abs=0.2)
    assert sliding[0][0] == own[1][0] and sliding[1][0] == own[3][0]  # from L on
    assert own[1][1] < sliding[0][1] < own[2][1] and sliding[0][1] == sliding[1][1]
    assert plain[0] == sliding[0] and plain[1][1] < min(y for _, y in own)
    assert len(plain) == 2  # it left the picture
    assert "sliding over 16" in drawn.svg and "tokens read" in drawn.svg
    band = re.search(r'polygon points="([^"]+)"', drawn.svg)
    assert band
    corners = [(float(x), float(y)) for x, y in (point.split(",") for point in band[1].split())]
    at_trained = [y for x, y in corners if x == own[1][0]]
    assert at_trained == pytest.approx([own[1][1]] * 2, abs=0.2)  # no difference to itself
    at_last = sorted(y for x, y in corners if x == own[3][0])
    assert at_last[0] < own[3][1] < at_last[1]


def test_what_stays_near_is_drawn_to_its_end():
    (drawn,) = score_charts(results(curve(plain=3.0)))
    assert [len(one) for one in lines(drawn.svg)] == [4, 2, 3]


def test_each_file_has_its_picture_and_table():
    both = results([*curve("a.txt"), *curve("b.txt")], step=7)
    first, second = score_charts(both)
    assert (first.title, second.title) == ("Loss by length (a.txt)", "Loss by length (b.txt)")
    assert first.file != second.file
    tables = score_tables(both)
    assert [table.title for table in tables] == ["Measured: length (a.txt)", "Measured: length (b.txt)"]
    assert [row[0] for row in tables[0].rows] == ["8", "16", "32", "64"]
    assert tables[0].rows[3][2] == "+0.2000 (+0.1500 … +0.2500)" and "2.9500" in tables[0].note


def test_scores_of_several_steps_say_so():
    kept = results(curve(), step=7)
    kept[SCORES] |= results([Score("domains/all/bits", 2.0, 3, "bits/character", "whole")], step=9)[SCORES]
    assert [one.title for one in measured(kept)] == ["length, step 7", "domains, step 9"]


def test_scores_of_other_tasks_are_tables():
    scores = [
        Score("choice/sum", 0.5, 1200, "share", "asked", 0.4, 0.6, 0.25),
        Score("choice/x", 3.25, 4, "nats/token", "asked", reference=True),
    ]
    (table,) = score_tables(results(scores))
    assert table.rows == (
        ("sum", "50.0%", "40.0% … 60.0%", "25.0%", "1,200", "share"),
        ("x (reference)", "3.250", "", "", "4", "nats/token"),
    )
    assert not list(score_charts(results(scores)))


@pytest.mark.parametrize(
    "damaged",
    [
        {},
        {SCORES: 3},
        {SCORES: {"a": 3, "b": {"name": 4, "value": 1}, "c": {"name": "length/nats/4", "value": "x"}}},
        {SCORES: {"a": {"name": "length/nats/" + "9" * 5000, "value": 1, "n": 1e300, "low": {}, "data": []}}},
        {SCORES: {"a": {"name": "length/nats/²", "value": 1e29}, "b": {"name": "length/nats/0", "value": 2}}},
        {SCORES: {"a": {"name": "length/sliding", "value": 1}, "b": {"name": "length", "value": 1}}},
        {SCORES: {"a": {"name": "length/gain/8", "value": 1}, "b": {"name": "length/nats/8", "value": 1}}},
    ],
)
def test_damaged_results_break_nothing(damaged: dict[str, Any]):
    for drawn in score_charts(damaged):
        ElementTree.fromstring(drawn.svg)
    score_tables(damaged)


def test_the_page_of_a_checkpoint_without_a_run_shows_them(tmp_path: Path):
    place = tiny_checkpoint.write(tmp_path / "long")
    fingerprint = artifact.opened(place, "checkpoint").fingerprint
    record.add_result(place, SCORES, results(curve())[SCORES])
    assert json.loads((place / "results.json").read_text())[SCORES]["length/sliding"]["value"] == 2.95
    assert not (place / "log.txt").exists()
    found = artifact.opened(place, "checkpoint", verify=True)
    assert found.fingerprint == fingerprint  # what was measured is no part of the model
    content = checkpoint_content.content_of_checkpoint(found)
    assert [one.title for one in content.charts] == ["Loss by length"]
    page = pages.html(content)
    assert "sliding over 16" in page and "the line to beat: 2.9500" in page
    assert "the line to beat" in pages.markdown(content)
