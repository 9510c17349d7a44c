"""Tables and JSON in the shapes other programs write them: every record is read, or what is not is named."""

import json
from pathlib import Path
from typing import Any

import pytest

from congling.core.errors import UserError
from congling.data.config import DataConfig
from congling.data.problems import ReadingLog
from congling.data.sources import reading
from congling.data.tuning import chat_rows
from congling.data.tuning.chat_rows import Conversation

ROWS = [{"instruction": f"问{i}", "input": "", "output": f"答{i}"} for i in range(12)]
LINES = [json.dumps(row, ensure_ascii=False) for row in ROWS]


def read(path: Path, content: str | bytes) -> tuple[list[tuple[str, str]], ReadingLog]:
    """Questions and answers of a file, and what was found."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    findings, config = ReadingLog(), DataConfig(sources=(str(path),))
    talks = list(reading.read(config.sources, config, findings, chat_rows.take))
    assert all(isinstance(talk, Conversation) for talk in talks)
    return [tuple(turn["content"] for turn in talk.messages) for talk in talks], findings


def wanted(count: int = 12) -> list[tuple[str, str]]:
    return [(f"问{i}", f"答{i}") for i in range(count)]


def pretty(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
@pytest.mark.parametrize("content", [
    "\n".join(LINES), "[" + ", ".join(LINES) + "]", pretty(ROWS), "".join(LINES), ",\n".join(LINES),
    ",\n".join(LINES) + ",\n", "\n".join(map(pretty, ROWS)), ",\n".join(map(pretty, ROWS)),
    "\n\n" + "\n".join(LINES),
    "\ufeff" + pretty(ROWS), LINES[0] + LINES[1] + "\n" + "\n".join(LINES[2:]),
], ids=["lines", "array", "pretty array", "glued", "comma lines", "last comma", "pretty objects",
        "pretty objects with commas", "blank first", "mark", "two on a line"])  # fmt: skip
def test_json_is_read_by_its_shape_not_by_its_name(tmp_path: Path, name: str, content: str):
    found, findings = read(tmp_path / name, content)
    assert found == wanted()
    assert set(findings.counts) <= {"blank line"}


OBJECTS: dict[str, Any] = {
    "columns": {key: [row[key] for row in ROWS] for key in ROWS[0]},
    "pandas columns": {key: {str(i): row[key] for i, row in enumerate(ROWS)} for key in ROWS[0]},
    "pandas split": {"columns": [*ROWS[0]], "index": [*range(12)], "data": [[*row.values()] for row in ROWS]},
    "by id": {f"q{i}": row for i, row in enumerate(ROWS)},
    "list": {"version": "1.0", "data": ROWS},
    "viewer": {"features": [], "rows": [{"row_idx": i, "row": row} for i, row in enumerate(ROWS)]},
}


@pytest.mark.parametrize("shape", OBJECTS)
@pytest.mark.parametrize("form", [json.dumps, pretty])
def test_objects_that_hold_records(tmp_path: Path, shape: str, form: Any):
    found, findings = read(tmp_path / "a.json", form(OBJECTS[shape]))
    assert found == wanted() and not findings.counts


def test_of_a_data_set_in_parts_train_is_read_and_the_others_are_named(tmp_path: Path):
    parts = {"test": ROWS * 2, "train": ROWS[:5], "validation": ROWS[:2]}
    found, findings = read(tmp_path / "a.json", json.dumps(parts))
    assert found == wanted(5) and findings.counts == {"part that is not read": 2}
    assert "'test' holds 24 records" in findings.examples[0].reason


def test_parts_may_hold_columns(tmp_path: Path):
    parts = {"train": OBJECTS["columns"], "test": {key: [row[key] for row in ROWS[:3]] for key in ROWS[0]}}
    found, findings = read(tmp_path / "a.json", json.dumps(parts))
    assert found == wanted() and "'test' holds records" in findings.examples[0].reason
    turns = [
        [{"role": "user", "content": f"问{i}"}, {"role": "assistant", "content": f"答{i}"}] for i in range(9)
    ]
    assert read(tmp_path / "b.json", json.dumps({"messages": turns}))[0] == wanted(9)


def test_one_conversation_is_one_row_and_a_list_of_turns_a_line_too(tmp_path: Path):
    turns = [{"role": "user", "content": "问0"}, {"role": "assistant", "content": "答0"}]
    for content in (json.dumps(turns), pretty(turns), pretty({"messages": turns}), json.dumps(turns) + "\n"):
        for name in ("a.json", "b.jsonl"):
            assert read(tmp_path / name, content)[0] == wanted(1), (name, content)
    assert read(tmp_path / "c.jsonl", "\n".join([json.dumps(turns)] * 3))[0] == wanted(1) * 3


def test_what_is_no_number_is_read_as_nothing_and_named(tmp_path: Path):
    lines = ['{"instruction": "问0", "input": NaN, "output": "答0"}', '{"instruction": "问1", "output": NaN}']
    for name, content in (("a.jsonl", "\n".join(lines)), ("a.json", "[" + ",".join(lines) + "]")):
        found, findings = read(tmp_path / name, content)
        assert found == wanted(1) and findings.counts == {"NaN": 2, "no answer": 1}


def table(*rows: str, end: str = "\n") -> str:
    return end.join(rows) + end


PLAIN = [f"问{i},答{i}" for i in range(12)]
TABLES: dict[str, str | bytes] = {
    "plain": table("instruction,output", *PLAIN),
    "pandas": table(",instruction,output", *(f"{i},{row}" for i, row in enumerate(PLAIN))),
    "pandas named": table("Unnamed: 0,instruction,output", *(f"{i},{row}" for i, row in enumerate(PLAIN))),
    "comma": table("instruction,output,", *(f"{row}," for row in PLAIN)),
    "comma in the head alone": table("instruction,output,", *PLAIN),
    "commas in rows alone": table("instruction,output", *(f"{row},," for row in PLAIN)),
    "excel": table("sep=;", "instruction;output", *(row.replace(",", ";") for row in PLAIN)),
    "blank first": table("", "  ", "instruction,output", *PLAIN),
    "utf-16": table(*(row.replace(",", "\t") for row in ("instruction,output", *PLAIN)), end="\r\n",
    ).encode("utf-16"),
    "mark": "\ufeff" + table("instruction,output", *PLAIN),
}  # fmt: skip


@pytest.mark.parametrize("form", TABLES)
def test_tables_as_programs_write_them(tmp_path: Path, form: str):
    found, findings = read(tmp_path / "a.csv", TABLES[form])
    assert found == wanted() and not findings.counts and not findings.unread.said


def test_of_two_columns_with_one_name_the_first_is_read_and_the_other_named(tmp_path: Path):
    found, findings = read(
        tmp_path / "a.csv", table("instruction,output,output", *(f"{row},x" for row in PLAIN))
    )
    assert found == wanted()
    assert findings.sentences == ["field 'output (2)' (12 ×, first a.csv:2): not read"]


def test_a_table_without_names_says_that_the_first_row_has_none(tmp_path: Path):
    with pytest.raises(UserError, match="cannot tell where the text") as found:
        read(tmp_path / "a.csv", table(*PLAIN))
    assert "first row" in str(found.value.hint)


@pytest.mark.parametrize("values", [["答", None, "问"], [None, 3, "答"]])
def test_records_that_are_no_objects_are_named(tmp_path: Path, values: list[Any]):
    content = json.dumps([*ROWS, *values])
    _, findings = read(tmp_path / "a.json", content)
    assert findings.counts == {"no conversation": 3}
    config = DataConfig(sources=(str(tmp_path / "a.json"),))
    findings = ReadingLog()
    assert len(list(reading.read(config.sources, config, findings))) == 12
    assert findings.counts == {"record without text": 3}
