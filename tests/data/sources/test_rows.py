import json
from pathlib import Path

import pytest

from congling.core.errors import UserError
from congling.data.config import DataConfig
from congling.data.problems import ReadingLog
from congling.data.sources.rows import Record, documents


def rendered(*records: object, text: str | None = None) -> list[str]:
    findings = ReadingLog()
    config = DataConfig(sources=("x",), text=text)
    numbered = [Record(number, record) for number, record in enumerate(records, 1)]
    return [
        document.text for document in documents(numbered, findings.file("x", 0, "jsonl"), config, findings)
    ]


@pytest.mark.parametrize(
    "record,text",
    [
        ({"text": "文", "title": "题"}, "文"),
        ({"completion": "文", "source": "wiki"}, "文"),
        ({"title": "題", "author": "人", "paragraphs": ["一", "二"]}, "題\n人\n一\n二"),
        ({"title": "漂", "bopomofo": "ㄆㄧㄠ", "definition": "浮在水面上。"}, "漂 ㄆㄧㄠ\n浮在水面上。"),
        ({"instruction": "翻译", "input": "雨", "output": "rain"}, "翻译\n雨\nrain"),
        ({"instruction": "写", "input": "", "output": "好"}, "写\n好"),
        ({"question": "几？", "answer": "三"}, "几？\n三"),
        ({"context": "文", "question": "几？", "answers": ["三", "3"], "title": "题"}, "文\n几？\n三"),
        ({"department": "科", "title": "题", "ask": "问", "answer": "答"}, "问\n答"),
        ({"question": "选", "A": "一", "B": "二", "answer": "B"}, "选\nA. 一\nB. 二\n答案：B"),
        (
            {
                "premise": "下雨。",
                "choice1": "地湿了。",
                "choice2": "地干了。",
                "label": 0,
                "question": "effect",
            },
            "下雨。地湿了。",
        ),
        ({"conversations": [{"from": "human", "value": "问"}, {"from": "gpt", "value": "答"}]}, "问\n答"),
        ({"messages": [{"role": "user", "content": "问"}], "chosen": "好", "rejected": "坏"}, "问\n好"),
        ("一行", "一行"),
    ],
)
def test_usual_layouts(record: object, text: str) -> None:
    assert rendered(record) == [text]


def test_a_template_is_plain_substitution() -> None:
    record = {"title": "云", "text": "{title.__class__}", "n": 3, "list": ["a", "b"]}
    assert rendered(record, text="{title}：{text} {n} {list}") == ["云：{title.__class__} 3 a\nb"]
    assert rendered({"content": "c", "text": "t"}, text="content") == ["c"]
    assert rendered(record, text="{title.__class__}") == []
    with pytest.raises(UserError, match="braces"):
        rendered(record, text="{title")


def test_unknown_fields_are_listed_with_what_to_do() -> None:
    with pytest.raises(UserError, match=r"fields name, score") as caught:
        rendered({"name": "a", "score": 1})
    assert "text=" in str(caught.value.hint)


def test_the_layout_is_fixed_for_the_file() -> None:
    assert rendered({"text": "one"}, {"content": "two"}, {"text": "three"}, ["four"], "five") == [
        "one",
        "three",
    ]


def test_every_real_layout_is_recognised(corpora: Path) -> None:
    for path in sorted(corpora.glob("*/*.jsonl")):
        if path.parent.name == "messy":
            continue
        records = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line][:60]
        found = rendered(*records)
        assert len(found) == len(records), path.name
        assert all(len(text) > 5 for text in found), path.name
