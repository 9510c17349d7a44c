import json

from congling.core.artifact import write_text
from congling.core.text import valid
from congling.train.rundir import JsonLines

HALF = "云\ud83d对\udcc4雨"


def test_halves_are_joined_or_replaced() -> None:
    assert valid("云对雨😀") == "云对雨😀"
    assert valid("\ud83d\ude00") == "😀"
    assert valid(HALF) == "云�对�雨"


def test_files_of_text_hold_no_half_and_json_gives_it_back(tmp_path) -> None:
    write_text(tmp_path / "report.html", HALF)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == valid(HALF)
    write_text(tmp_path / "results.json", json.dumps({"name": HALF}, ensure_ascii=False))
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8")) == {"name": HALF}
    JsonLines(tmp_path / "samples.jsonl").append({"text": HALF})
    assert list(JsonLines(tmp_path / "samples.jsonl").rows()) == [{"text": HALF}]
