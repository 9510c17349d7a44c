"""Preference pairs, rated answers and questions in every form they come in, and in forms they should not."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from congling.data.config import DataConfig
from congling.data.problems import Place, ReadingLog
from congling.data.sources import reading
from congling.data.sources.fields import Log, Unfit
from congling.data.tuning.preference_rows import pair_of, question_of, rated_of, taker

AT = Place("a.jsonl", 1)
USER = {"role": "user", "content": "问"}
GOOD, BAD = {"role": "assistant", "content": "好"}, {"role": "assistant", "content": "坏"}
SYSTEM = {"role": "system", "content": "你是"}
ASKED = ({"role": "user", "content": "问"},)

PAIRS: list[dict[str, Any]] = [
    {"prompt": "问", "chosen": "好", "rejected": "坏"},
    {"instruction": "问", "chosen": "好", "rejected": "坏", "output": "好"},
    {"question": "问", "chosen": GOOD, "rejected": BAD},
    {"messages": [USER], "chosen": "好", "rejected": "坏"},
    {"conversations": [{"from": "human", "value": "问"}], "chosen": {"from": "gpt", "value": "好"},
     "rejected": {"from": "gpt", "value": "坏"}},
    {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
    {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
    {"prompt": "问", "chosen": [USER, GOOD], "rejected": [USER, BAD], "score_chosen": 9.0},
    {"messages": [USER], "chosen": "好", "rejected": "坏", "history": 5},
    {"prompt": "问", "chosen": [GOOD], "rejected": "坏"},
    {"chosen": "\n\nHuman: 问\n\nAssistant: 好", "rejected": "\n\nHuman: 问\n\nAssistant: 坏"},
    {"prompt": "问", "chosen": ["好"], "rejected": ["坏"]},
]  # fmt: skip
RATED: list[tuple[dict[str, Any], bool]] = [
    ({"prompt": "问", "completion": "好", "label": True}, True),
    ({"prompt": [USER], "completion": [GOOD], "label": False}, False),
    ({"messages": [USER, GOOD], "kto_tag": True}, True),
    ({"instruction": "问", "output": "好", "desirable": 0}, False),
    ({"question": "问", "answer": "好", "good": 1.0}, True),
]
QUESTIONS: list[tuple[dict[str, Any], str | None]] = [
    ({"prompt": "问", "answer": "好"}, "好"),
    ({"question": "问", "solution": 4}, "4"),
    ({"prompt": "问"}, None),
    ({"prompt": [USER], "answer": ["好", "可"]}, "好"),
    ({"messages": [USER]}, None),
    ({"messages": [USER, GOOD]}, "好"),
    ({"prompt": "问", "answer": True}, None),
]


@pytest.mark.parametrize("record", PAIRS)
def test_every_form_of_a_pair(record: dict[str, Any]):
    found = pair_of(record, AT, Log())
    assert (found.prompt, found.chosen["content"], found.rejected["content"]) == (ASKED, "好", "坏")


@pytest.mark.parametrize(("record", "good"), RATED)
def test_every_form_of_a_rated_answer(record: dict[str, Any], good: bool):
    found = rated_of(record, AT, Log())
    assert (found.prompt, found.answer["content"], found.good) == (ASKED, "好", good)


@pytest.mark.parametrize(("record", "answer"), QUESTIONS)
def test_every_form_of_a_question(record: dict[str, Any], answer: str | None):
    found = question_of(record, AT, Log())
    assert (found.prompt, found.answer, found.fields) == (ASKED, answer, record)


def test_earlier_turns_and_instructions_stand_before_the_question():
    earlier = [SYSTEM, USER, GOOD, {"role": "user", "content": "再问"}]
    found = pair_of({"messages": earlier, "chosen": "好", "rejected": "坏"}, AT, Log())
    assert [turn["role"] for turn in found.prompt] == ["system", "user", "assistant", "user"]
    same = pair_of({"chosen": [*earlier, GOOD], "rejected": [*earlier, BAD]}, AT, Log())
    assert same.prompt == found.prompt
    assert question_of({"messages": earlier}, AT, Log()).prompt == found.prompt
    row = {"system": "你是", "history": [["问", "好"]], "instruction": "再问"} | {
        "chosen": "好",
        "rejected": "坏",
    }
    assert pair_of(row, AT, Log()).prompt == found.prompt


HOSTILE: list[tuple[Any, Any, str]] = [
    (pair_of, ["问"], "no conversation"),
    (pair_of, 5, "no conversation"),
    (pair_of, {"prompt": "问", "chosen": "好"}, "no preference"),
    (pair_of, {"prompt": "问", "chosen": "好", "rejected": " 好\n"}, "chosen equals rejected"),
    (pair_of, {"prompt": "问", "chosen": "好", "rejected": ""}, "no preference"),
    (pair_of, {"prompt": "问", "chosen": None, "rejected": "坏"}, "no preference"),
    (pair_of, {"prompt": "问", "chosen": ["好", "可"], "rejected": ["坏"]}, "no preference"),
    (pair_of, {"prompt": "问", "chosen": [], "rejected": []}, "no preference"),
    (pair_of, {"prompt": "问", "chosen": [GOOD], "rejected": [USER]}, "no answer"),
    (pair_of, {"prompt": "", "chosen": "好", "rejected": "坏"}, "no question"),
    (pair_of, {"prompt": {"a": 1}, "chosen": "好", "rejected": "坏"}, "no question"),
    (pair_of, {"chosen": "好", "rejected": "坏"}, "no question"),
    (pair_of, {"messages": [SYSTEM], "chosen": "好", "rejected": "坏"}, "no question"),
    (pair_of, {"prompt": [SYSTEM], "chosen": [GOOD], "rejected": [BAD]}, "no question"),
    (pair_of, {"messages": [], "chosen": "好", "rejected": "坏"}, "no question"),
    (pair_of, {"messages": [{"role": "narrator", "content": "问"}], "chosen": "好", "rejected": "坏"},
     "unknown role"),
    (pair_of, {"chosen": [USER, GOOD], "rejected": [GOOD, BAD]}, "no preference"),
    (pair_of, {"chosen": [USER, GOOD], "rejected": [USER, {"role": "assistant", "content": True}]},
     "no preference"),
    (pair_of, {"chosen": [USER, USER], "rejected": [USER, SYSTEM]}, "no answer"),
    (pair_of, {"chosen": [USER, GOOD], "rejected": [USER, {"role": "user", "content": "坏"}]},
     "no answer"),
    (rated_of, {"prompt": "问", "completion": "好"}, "no label"),
    (rated_of, {"prompt": "问", "completion": "好", "label": "maybe"}, "no label"),
    (rated_of, {"prompt": "问", "completion": "好", "label": 2}, "no label"),
    (rated_of, {"prompt": "问", "completion": "好", "label": None}, "no label"),
    (rated_of, {"prompt": "问", "completion": "", "label": True}, "no answer"),
    (rated_of, {"prompt": "问", "label": True}, "no answer"),
    (rated_of, {"prompt": [USER], "completion": [USER], "label": True}, "no answer"),
    (rated_of, {"messages": [SYSTEM, GOOD], "label": True}, "no question"),
    (question_of, {"answer": "好"}, "no question"),
    (question_of, {"prompt": " "}, "no question"),
    (question_of, {"messages": [SYSTEM]}, "no question"),
    (question_of, {"messages": [GOOD]}, "no question"),
    (question_of, {"messages": [5]}, "no conversation"),
    (question_of, None, "no conversation"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "record", "kind"), HOSTILE)
def test_what_is_not_whole_is_named(make: Any, record: Any, kind: str):
    with pytest.raises(Unfit) as caught:
        make(record, AT, Log())
    assert caught.value.kind == kind and str(caught.value)


def test_a_reason_is_short_however_large_the_record():
    huge = "啊" * 1_000_000
    for make, record in (
        (rated_of, {"prompt": "问", "completion": "好", "label": huge}),
        (pair_of, {"messages": [{"role": huge, "content": "问"}], "chosen": "好", "rejected": "坏"}),
        (pair_of, {"prompt": "问", "chosen": [huge], "rejected": [huge]}),
    ):
        with pytest.raises(Unfit) as caught:
            make(record, AT, Log())
        assert len(str(caught.value)) < 400


def nested(depth: int) -> Any:
    value: Any = "深"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("depth", [10, 200, 900])
def test_nested_values_are_refused_or_carried_along(depth: int):
    for key in ("chosen", "prompt", "messages", "history", "system", "answer"):
        record = {"prompt": "问", "chosen": "好", "rejected": "坏", "label": True, key: nested(depth)}
        for make in (pair_of, rated_of, question_of):
            try:
                make(record, AT, Log())
            except Unfit as unfit:
                assert len(str(unfit)) < 400


KEYS = st.sampled_from(
    [
        "prompt",
        "messages",
        "chosen",
        "rejected",
        "label",
        "completion",
        "instruction",
        "input",
        "output",
        "history",
        "system",
        "conversations",
        "answer",
        "solution",
        "question",
        "role",
        "content",
        "from",
        "value",
        "kto_tag",
        "A",
        "context",
        "tools",
    ]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_subnormal=False)
    | st.text(max_size=3)
    | st.sampled_from(["user", "assistant", "system", "问", "human", "gpt", "\ud800"])
)
RECORDS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)


@settings(max_examples=40)
@given(st.dictionaries(KEYS, RECORDS, max_size=7) | RECORDS)
def test_nothing_but_a_named_reason_comes_of_any_record(record: Any):
    for make in (pair_of, rated_of, question_of):
        try:
            found: Any = make(record, AT, Log())
        except Unfit as unfit:
            assert unfit.kind and str(unfit)
            continue
        assert found.prompt and all(
            set(turn) == {"role", "content"} and isinstance(turn["content"], str) and turn["content"].strip()
            for turn in found.prompt
        )
        assert any(turn["role"] != "system" for turn in found.prompt)


@pytest.mark.parametrize(("name", "make", "rows"), [
    ("dpo_zh.jsonl", pair_of, 222), ("dpo_en.jsonl.gz", pair_of, 227), ("kto_en.jsonl", rated_of, 150),
])  # fmt: skip
def test_the_real_preferences_are_read_whole(corpora: Path, name: str, make: Any, rows: int):
    findings, path = ReadingLog(), corpora / "preference" / name
    config = DataConfig(sources=(str(path),))
    found = list(reading.read(config.sources, config, findings, taker(make)))
    assert len(found) + sum(findings.counts.values()) == rows
    assert findings.counts <= Counter({"chosen equals rejected": 5}), findings.examples
    assert all(row.prompt[-1]["role"] != "assistant" for row in found)
