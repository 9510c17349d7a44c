# ruff: noqa: E501 - rows stand on one line each
"""Rows of any shape are read, or counted and named with their line; none is a traceback."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from congling.core.errors import UserError
from congling.data import corpus, inspection
from congling.data.config import DataConfig
from congling.data.problems import Place, ReadingLog
from congling.data.sources.fields import Log, Unfit
from congling.data.tuning import conversations, preferences, row_inspection, row_kinds
from congling.data.tuning.preference_rows import pair_of, question_of


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


ODD = [
    '"just text"', "null", "1", "-1e400", "NaN", "true", "[]", "{}", "[[]]", nested(500), nested(10_000),
    '{"a":' * 500 + "1" + "}" * 500, '{"messages":' + nested(400) + "}", '{"text":' + nested(10_000) + "}",
    '{"text": null}', '{"text": 1}', '{"text": {"a": 1}}', '{"text": ["a", 1]}', '{"text": NaN}',
    '{"messages": null}', '{"messages": "x"}', '{"messages": [null]}', '{"messages": ["a", 2]}',
    '{"messages": [{"role": 1, "content": 2}]}', '{"messages": [{"role": ["a"], "content": "x"}]}',
    '{"messages": [{"role": "user", "content": null}, {"role": "assistant", "content": ["a"]}]}',
    '{"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}, {"role": "assistant"}]}',
    '{"messages": [{"from": "human", "value": {"a": []}}, {"from": "gpt", "value": 1}]}',
    '{"messages": [{"role": "user", "content": "a", "tool_calls": 5}, {"role": "assistant", "tool_calls": "["}]}',
    '{"messages": [{"role": "user", "content": "x", "loss": []}, {"role": "assistant", "content": "y", "weight": {}}]}',
    '{"instruction": 5, "output": []}', '{"instruction": "a", "output": {"b": 1}}',
    '{"instruction": "a", "output": "b", "history": [1]}', '{"instruction": "a", "output": "b", "history": [["q"]]}',
    '{"instruction": "a", "output": "b", "history": "[["}', '{"instruction": "a", "output": "b", "history": {"x": 1}}',
    '{"system": 5, "instruction": "a", "input": 7, "output": "b"}', '{"prompt": 1, "chosen": 2, "rejected": 3}',
    '{"prompt": "a", "chosen": null, "rejected": null}', '{"prompt": "a", "chosen": [1], "rejected": [2]}',
    '{"prompt": ["a"], "chosen": {"a": 1}, "rejected": "x"}', '{"prompt": "a", "completion": "b", "label": "maybe"}',
    '{"prompt": "a", "completion": "b", "label": 1e999}', '{"prompt": "a", "completion": "b", "label": []}',
    '{"tools": "{{1}}", "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}',
    '{"text": "a", "text": "b"}', '{"": "x"}', '{"text": "a\\ud800"}', '{"text": "a", "id": ' + "9" * 4000 + "}",
    '{"text": "a", "id": ' + "9" * 5000 + "}", '{"text": "a", "id": 1e999}', '{"conversations": {"a": 1}}',
    '{"conversations": [["a", "b"]]}', '{"question": "a", "answers": []}', '{"question": "a", "answers": {"text": [1]}}',
    '{"question": "a", "A": "x", "B": "y", "answer": 5}', '{"question": "a", "choices": {"text": 5}, "answerKey": 7}',
    '{"question": "a", "choices": [1, null], "answer": 99}', '{"premise": 1, "choice1": 2}',
    '{"premise": "a", "choice1": "b", "label": {}}', '{"title": ["a"], "paragraphs": [1]}',
    '{"title": "a", "paragraphs": ["x", ["y"]]}', '{"word": "a", "definition": {"x": 1}}',
    '{"word": 1, "pinyin": [], "text": 3}', '{"tools": "[", "messages": [{"role": "user", "content": "x"}]}',
    '{"prompt": {"text": 1, "role": 2, "replies": [null]}}', '{"prompt": {"replies": null}}',
    '{"parent_id": 1, "message_id": 2, "text": "x", "role": "prompter"}', '{"answer": {}, "question": "a"}',
    '{"score": "x", "prompt": "a", "response": "b"}', '{"kind": {"a": 1}, "question": "a", "answer": "b"}',
]  # fmt: skip
GOOD = [
    '{"text": "好的文本"}', '{"messages": [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}]}',
    '{"prompt": "a", "chosen": "b", "rejected": "c"}', '{"prompt": "a", "completion": "b", "label": true}',
    '{"title": "a", "paragraphs": ["x"]}', '{"word": "云", "definition": "水气"}', '"text"',
    '{"question": "q", "A": "1", "B": "2", "answer": "A"}', '{"premise": "a", "choice1": "b", "choice2": "c", "label": 0}',
]  # fmt: skip


def readers(path: Path) -> list[Callable[[], Any]]:
    config = DataConfig(sources=(str(path),))
    return [
        lambda: list(corpus.prepared(config, ReadingLog(), lambda *_: None)),
        lambda: list(conversations.read_items(config, ReadingLog())),
        *(
            lambda make=make: list(preferences.preference_items(config, ReadingLog(), make))
            for make in (pair_of, question_of, preferences.rated_or_pair)
        ),
        lambda: [row_inspection.look(part) for part in row_kinds.by_sort(config)],
        lambda: inspection.inspect(config),
    ]


@pytest.mark.parametrize("good", GOOD)
def test_odd_rows_among_good_ones(good: str, tmp_path: Path) -> None:
    odd = "\n".join(ODD)
    (tmp_path / "a.jsonl").write_text(f"{good}\n{odd}\n{good}\n", encoding="utf-8")
    usable = [row for row in ODD if "NaN" not in row and len(row) < 10_000]
    (tmp_path / "a.json").write_text(f"[{good}, {', '.join(usable)}, {good}]", encoding="utf-8")
    for name in ("a.jsonl", "a.json"):
        for read in readers(tmp_path / name):
            try:
                read()
            except UserError as error:
                assert str(error)


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_row_is_counted_and_named(odd: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "first"}}\n{odd}\n{{"text": "last"}}\n', encoding="utf-8")
    findings = ReadingLog()
    config = DataConfig(sources=(str(path),))
    texts = [one.text for one, _ in corpus.prepared(config, findings, lambda *_: None)]
    assert texts[:1] == ["first"] and texts[-1:] == ["last"]
    assert len(texts) == 3 or any(one.line == 2 for one in findings.examples)


@pytest.mark.parametrize("odd", [json.loads(row) for row in ODD if len(row) < 4000])
def test_an_odd_record_is_no_row_of_any_method(odd: Any) -> None:
    for made, log in itertools.product((pair_of, question_of), (Log(),)):
        try:
            made(odd, Place("a", 1), log)
        except (Unfit, UserError) as error:
            assert str(error)
