"""A comparison for a program: numbers in full, and what the tables say in words."""

import json

from congling.core.document import plain
from congling.report.comparison import RowScores, compare
from congling.report.comparison_document import as_document
from congling.report.sides import summaries
from support.synthetic import make_run


def test_numbers_are_those_that_were_measured(tmp_path):
    runs = [make_run(tmp_path / "one", steps=40), make_run(tmp_path / "two", steps=80)]
    rows = RowScores({"one": [1.0 / 3, 2.0], "two": [0.5, float("nan")]}, [3, 7])
    found = compare(
        summaries(runs), rows=rows, written={"one": {"问": "答"}, "two": {"问": "是"}}, note="seed 0"
    )
    document = json.loads(json.dumps(plain(as_document(found)), allow_nan=False))
    first, second = document["runs"]
    assert (first["name"], second["name"]) == ("one", "two")
    assert first["held_out"]["bits_per_character"] == 6.17
    assert first["rows_bits_per_character"] == rows.bits("one") and second["rows_bits_per_character"] is None
    assert {one["run"] for one in document["differences"]} == {"two"}
    assert document["texts"] == [{"prompt": "问", "by_run": {"one": "答", "two": "是"}}]
    assert set(document["findings"]) == {"one", "two"} and document["note"] == "seed 0"
