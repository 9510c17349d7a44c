import ast
import json
import os
from pathlib import Path

import pytest

import congling
from congling.core import artifact
from congling.core.config import build, load
from congling.core.differences import require_same
from congling.core.errors import UserError
from congling.core.rundir import JsonLines
from congling.core.text import valid, write_text
from congling.data.config import DataConfig

HALF = "云\ud83d对\udcc4雨"


def test_halves_are_joined_or_replaced() -> None:
    assert valid("云对雨😀") == "云对雨😀"
    assert valid("\ud83d\ude00") == "😀"
    assert valid(HALF) == "云�对�雨"


def test_files_of_text_hold_no_half_and_json_gives_it_back(tmp_path) -> None:
    artifact.write_text(tmp_path / "report.html", HALF)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == valid(HALF)
    artifact.write_text(tmp_path / "results.json", json.dumps({"name": HALF}, ensure_ascii=False))
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8")) == {"name": HALF}
    JsonLines(tmp_path / "samples.jsonl").append({"text": HALF})
    assert list(JsonLines(tmp_path / "samples.jsonl").rows()) == [{"text": HALF}]


def test_names_of_another_encoding_are_written_and_compared(tmp_path):
    name = os.fsdecode("红楼.txt".encode("gbk"))
    asked = build(DataConfig, {"sources": [name, "b.txt"]})
    artifact.write_text(tmp_path / "config.toml", asked.to_toml())
    read = load(DataConfig, tmp_path / "config.toml")
    assert read.sources[0].endswith(".txt") and "\ufffd" in read.sources[0]
    require_same(read, asked, where=tmp_path)
    with pytest.raises(UserError, match="'sources'"):
        require_same(read, build(DataConfig, {"sources": ["红楼.txt", "b.txt"]}), where=tmp_path)
    write_text(tmp_path / "facts.json", json.dumps({"name": name}, ensure_ascii=False))
    assert json.loads((tmp_path / "facts.json").read_text("utf-8"))["name"] == name


def test_texts_are_written_by_one_function():
    source = Path(congling.__file__).parent
    calls = [
        f"{file.relative_to(source)}:{node.lineno}"
        for file in source.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "write_text"
        and ast.unparse(node.func.value) != "artifact"
    ]
    assert not calls
