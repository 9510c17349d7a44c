"""Rows in the forms public data sets have: no word of them is lost, and what is mended is told."""

import json
from typing import Any

import pytest

from congling.data.problems import Place
from congling.data.sources.conversation import asks
from congling.data.sources.fields import Log, Unfit
from congling.data.tuning.chat_rows import conversation_of, messages_of
from congling.data.tuning.preference_rows import question_of, rated_of

CALL = '{"name": "calc", "arguments": {"e": "1*2"}}'
TOOL = {"type": "function", "function": {"name": "calc", "description": "计算"}}
AT = Place("a.jsonl", 1)


def said(record: Any) -> list[tuple[str, str]]:
    return [(turn["role"], turn["content"]) for turn in messages_of(record)]


def told(record: Any) -> tuple[list[tuple[str, str]], list[tuple[str, str]], list[str]]:
    """Turns, repairs, fields that were not read."""
    log = Log()
    talk = conversation_of(record, AT, log)
    unread = [one.name for one in log.unread([turn["content"] for turn in talk.messages])]
    return [(turn["role"], turn["content"]) for turn in talk.messages], log.repairs, unread


def talk(*turns: tuple[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns], **more}


ASKED = [("user", "问"), ("assistant", "答")]


@pytest.mark.parametrize("empty", ["", None, " \n", [], "\u200b", float("nan")])
def test_a_system_turn_that_is_empty_is_none(empty: Any):
    assert told(talk(("system", empty), *ASKED)) == (ASKED, [], [])
    assert told({"system": empty, "prompt": "问", "response": "答"}) == (ASKED, [], [])


@pytest.mark.parametrize("name", ["tools", "functions"])
@pytest.mark.parametrize("form", [list, json.dumps])
def test_tools_stand_in_the_system_turn_wherever_they_were_kept(name: str, form: Any):
    described = ("system", json.dumps(TOOL, ensure_ascii=False))
    row = talk(*ASKED)
    assert told({**row, name: form([TOOL])}) == ([described, *ASKED], [], [])
    within = {"messages": [{"role": "system", "content": "", name: form([TOOL])}, *row["messages"]]}
    assert told(within) == ([described, *ASKED], [], [])
    within["messages"][0]["content"] = "你是助手"
    assert said(within)[0] == ("system", f"你是助手\n{described[1]}")


@pytest.mark.parametrize("call", [
    {"content": "", "tool_calls": '[{"name": "calc", "arguments": {"e": "1*2"}}]'},
    {"content": None, "tool_calls": [{"function": {"name": "calc", "arguments": '{"e": "1*2"}'}}]},
    {"function_call": '{"name": "calc", "arguments": "{\\"e\\": \\"1*2\\"}"}'},
])  # fmt: skip
def test_calls_are_read_as_text_or_objects(call: dict[str, Any]):
    row = {"messages": [{"role": "user", "content": "算"}, {"role": "assistant", **call}]}
    assert told(row) == ([("user", "算"), ("assistant", CALL)], [], [])


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking", "thought"])
def test_thoughts_go_with_their_answer(name: str):
    for row in (
        {"messages": [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答", name: "想"}]},
        {"question": "问", "answer": "答", name: "想"},
        {"conversation": [{"human": "问", "assistant": "答", name: "想"}]},
    ):
        assert messages_of(row)[-1] == {"role": "assistant", "content": "答", "reasoning_content": "想"}
        assert told(row)[2] == []
    alone = {
        "messages": [{"role": "user", "content": "问"}, {"role": "assistant", "content": None, name: "想"}]
    }
    assert messages_of(alone)[-1] == {"role": "assistant", "content": "", "reasoning_content": "想"}


EARLIER = [("user", "早"), ("assistant", "你好"), ("user", "问"), ("assistant", "答")]
HISTORIES: list[Any] = [
    [["早", "你好"]],
    [{"role": "user", "content": "早"}, {"role": "assistant", "content": "你好"}],
    [{"prompt": "早", "response": "你好"}],
    [{"human": "早", "assistant": "你好"}],
    ["早", "你好"],
    [["user", "早"], ["assistant", "你好"]],
]


@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize("form", [lambda value: value, lambda value: json.dumps(value), repr])
def test_earlier_turns_are_read_in_every_form(history: Any, form: Any):
    assert told({"history": form(history), "instruction": "问", "output": "答"}) == (EARLIER, [], [])


TALKS: list[dict[str, Any]] = [
    {"conversation": [{"human": "早", "assistant": "你好"}, {"human": "问", "assistant": "答"}]},
    {"conversation": [{"input": "早", "output": "你好"}, {"input": "问", "output": "答"}]},
    {"conversations": '[{"from": "human", "value": "早"}, {"from": "gpt", "value": "你好"}, '
                      '{"from": "human", "value": "问"}, {"from": "gpt", "value": "答"}]'},
    {"conversations": "[{'role': 'user', 'content': '早'}, {'role': 'AI', 'content': '你好'}, "
                      "{'role': '用户', 'content': '问'}, {'role': '客服', 'content': '答'}]"},
    {"data": ["早", "你好", "问", "答"], "id": 1},
    {"chat": {"turn_1": {"Human": "<|Human|>: 早<eoh>\n", "Inner Thoughts": "<|Inner Thoughts|>: None<eot>\n",
                         "MOSS": "<|MOSS|>: 你好<eom>\n"},
              "turn_2": {"Human": "<|Human|>: 问<eoh>\n", "MOSS": "<|MOSS|>: 答<eom>\n"}}},
    {"chat": "USER: 早\n\n\nASSISTANT: 你好 <|endoftext|>\n\n\nUSER: 问\n\n\nASSISTANT: 答 <|endoftext|>"},
    {"prompt": [{"role": "user", "content": "早"}, {"role": "assistant", "content": "你好"},
                {"role": "user", "content": "问"}], "completion": [{"role": "assistant", "content": "答"}]},
    {"messages": [{"role": "user", "content": "早"}, {"role": "assistant", "content": "你好"},
                  {"role": "user", "content": "问"}], "chosen": {"role": "assistant", "content": "答"}},
]  # fmt: skip


@pytest.mark.parametrize("row", TALKS)
def test_conversations_of_public_data_sets(row: dict[str, Any]):
    assert said(row) == EARLIER


@pytest.mark.parametrize("row", [
    {"Human": "问", "Assistant": "答"}, {"q": "问", "a": "答"}, {"input": "问", "target": "答", "kind": "诗"},
    {"Question": "问", "Response": "答"}, {"prompt": "问", "completion": "答"}, {"问": "问", "答": "答"},
    {"instruction": "", "input": "问", "output": "答"}, {"instruction": "问", "prompt": "问", "output": "答"},
    {"instruction": "问", "input": None, "output": "答", "text": "### 指令：问\n### 回答：答"},
    {"messages": json.dumps([{"role": "user", "content": "问"}, {"from": "gpt", "value": "答"}]),
     "prompt": "问"},
])  # fmt: skip
def test_questions_and_answers_of_public_data_sets(row: dict[str, Any]):
    assert told(row) == (ASKED, [], [])


def test_a_post_with_its_writer_is_no_question():
    assert not asks({"user": "某人", "content": "今天下雨。"}) and not asks({"model": "gpt-4", "text": "文"})
    row = {"input": "问", "reasoning_content": "想", "content": "答", "repo_name": "r", "score": 9}
    assert messages_of(row)[-1] == {"role": "assistant", "content": "答", "reasoning_content": "想"}
    assert said({"system": "问", "prompt": "问题", "response": "答"})[0] == ("system", "问")


def test_two_fields_that_ask_are_both_read():
    row = {
        "instruction": "按要求写",
        "prompt": "春天",
        "input": "五言",
        "system_prompt": "你是",
        "output": "云",
    }
    assert told(row) == ([("system", "你是"), ("user", "按要求写\n春天\n五言"), ("assistant", "云")], [], [])


def test_a_number_is_an_answer_and_a_flag_is_none():
    assert said({"question": "3+4=", "answer": 7})[-1] == ("assistant", "7")
    assert said({"question": "1/4=", "answer": 0.25})[-1] == ("assistant", "0.25")
    for value in (True, float("nan"), None):
        with pytest.raises(Unfit, match="the answer is") as found:
            messages_of({"question": "问", "answer": value})
        assert found.value.kind == "no answer"


def test_options_and_the_number_of_the_right_one():
    row = {"question": "几何？", "choices": ["一", "二"], "answer": 1}
    assert told(row) == ([("user", "几何？\nA. 一\nB. 二"), ("assistant", "B")], [], [])


ROLES = {
    "user": ("user", "USER", "Human", "prompter", "用户", "问", "客户"),
    "assistant": ("assistant", "AI", "gpt", "chatgpt", "bard", "客服", "助手", "答", "MOSS", "tool_call"),
    "system": ("system", "developer", "系统"),
    "tool": ("tool", "ipython", "tool_response", "observation", "function"),
}


@pytest.mark.parametrize(("name", "role"), [(name, role) for role, names in ROLES.items() for name in names])
def test_speakers_of_public_data_sets(name: str, role: str):
    row = talk(("user", "早"), ("assistant", "你好"), (name, "中"), ("user", "问"), ("assistant", "答"))
    assert (role, "中") in said(row) or role in ("user", "assistant")
    assert "中" in "".join(text for _, text in said(row))


def test_an_unknown_speaker_is_named_with_the_turn():
    with pytest.raises(Unfit, match="turn 2 is by 'narrator'") as found:
        messages_of(talk(("user", "问"), ("narrator", "旁白"), ("assistant", "答")))
    assert found.value.kind == "unknown role" and len(str(found.value)) < 100


def test_turns_of_one_speaker_are_joined_and_it_is_told():
    row = talk(("user", "在吗"), ("user", "问"), ("assistant", "在。"), ("assistant", "请说。"), *ASKED)
    found, repairs, _ = told(row)
    assert found == [("user", "在吗\n问"), ("assistant", "在。\n请说。"), *ASKED]
    assert [kind for kind, _ in repairs] == ["turns of one role joined"] * 2
    assert repairs[0][1].startswith("turn 2 is by the user as the one before")
    tools = talk(("user", "算"), ("assistant", CALL), ("tool", "1"), ("tool", "2"), ("assistant", "答"))
    assert [role for role, _ in said(tools)] == ["user", "assistant", "tool", "tool", "assistant"]


def test_an_empty_turn_costs_no_more_than_itself():
    found, repairs, _ = told(talk(("user", "问0"), ("assistant", ""), ("user", "人呢"), ("assistant", "在")))
    assert found == [("user", "问0\n人呢"), ("assistant", "在")]
    assert repairs[0] == ("empty answer", "turn 2 is empty; it is left out")
    found, repairs, _ = told(talk(("user", " "), ("assistant", "丢"), *ASKED))
    assert found == ASKED and repairs == [
        ("empty question", "turn 1 is empty; it is left out with its answer")
    ]
    found, repairs, _ = told(talk(*ASKED, ("user", "谢谢")))
    assert found == ASKED and [kind for kind, _ in repairs] == ["turn after the last answer"]
    assert told({"history": [["问", "答"]], "instruction": "再问", "output": ""})[0] == ASKED


def test_an_empty_turn_at_the_end_of_a_prompt_asks_for_the_answer():
    row = talk(("system", ""), ("user", "问"), ("assistant", ""))
    assert question_of(row, AT, Log()).prompt == ({"role": "user", "content": "问"},)
    assert question_of({"prompt": row["messages"], "answer": "答"}, AT, Log()).answer == "答"


@pytest.mark.parametrize(("label", "good"), [
    ("True", True), ("0", False), ("good", True), ("1.0", True), ("坏", False), (-1, False), (True, True),
])  # fmt: skip
def test_labels_may_be_text(label: Any, good: bool):
    assert rated_of({"prompt": "问", "completion": "答", "label": label}, AT, Log()).good is good
