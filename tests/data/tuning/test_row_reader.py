"""Rows of every method: no question on both sides, the place of a row as a value, nothing lost unsaid."""

import json
from pathlib import Path
from typing import Any

import pytest

from congling.core.errors import UserError
from congling.data.config import DataConfig, SplitConfig
from congling.data.problems import ReadingLog
from congling.data.tuning import conversations
from congling.data.tuning.chat_rows import Conversation
from congling.data.tuning.preferences import read_pairs, read_questions, read_rated
from congling.data.tuning.row_reader import question_key
from congling.tokenizer.character import CharacterTokenizer

TOKENIZER = CharacterTokenizer("问答好坏天地玄黄宇宙洪荒日月盈昃0123456789，？。")


def written(folder: Path, rows: list[Any], **split: Any) -> DataConfig:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return DataConfig(sources=(str(file),), split=SplitConfig(**split))


def asked_by(examples: Any) -> set[str]:
    """The questions behind examples, by the ten of them."""
    text = {TOKENIZER.decode(one.input_ids[~one.loss_mask].tolist(), skip_special=True) for one in examples}
    return {said.partition("问")[2][:1] for said in text}


def spoken(i: int, form: int, answer: str) -> dict[str, Any]:
    """Question i with an answer, in one of six forms that people would call the same question."""
    ask = f"问{i}，好？"
    said = {"role": "assistant", "content": answer}
    return [
        {"instruction": ask, "output": answer},
        {"instruction": f" 问{i}好 ", "output": answer},
        {"system": "天地", "prompt": ask, "response": answer},
        {"messages": [{"role": "system", "content": "玄"}, {"role": "user", "content": ask}, said]},
        {"history": [[ask, "好"]], "instruction": "天？", "output": answer},
        {"conversations": [{"from": "human", "value": f"问{i},好?"}, {"from": "gpt", "value": answer}]},
    ][form]


def test_no_question_stands_on_both_sides_whatever_its_form(tmp_path: Path):
    rows = [spoken(i, form, f"答{form}。") for i in range(10) for form in range(6)]
    found = conversations.read(written(tmp_path, rows), TOKENIZER, 128)
    held, kept = asked_by(found.validation), asked_by(found.train)
    assert len(held) == 1 and len(kept) == 9 and not held & kept
    assert len(found.validation) == 6 and len(found.held_out) == 6


def test_pairs_rated_answers_and_prompts_are_held_out_by_question_too(tmp_path: Path):
    pairs = [
        {"prompt": f"问{i}", "chosen": f"好{n}", "rejected": f"坏{n}"} for i in range(10) for n in range(6)
    ]
    found = read_pairs(written(tmp_path, pairs), TOKENIZER, 64)
    sides = [[one for pair in part for one in pair] for part in (found.validation, found.train)]
    assert len(asked_by(sides[0])) == 1 and not asked_by(sides[0]) & asked_by(sides[1])
    rated = [
        {"prompt": f"问{i}", "completion": f"好{n}", "label": "true"} for i in range(10) for n in range(6)
    ]
    found = read_rated(written(tmp_path, rated), TOKENIZER, 64)
    parts = [[one.example for one in part] for part in (found.validation, found.train)]
    assert len(asked_by(parts[0])) == 1 and not asked_by(parts[0]) & asked_by(parts[1])
    prompts = [{"prompt": f"问{i}", "answer": str(n)} for i in range(10) for n in range(6)]
    found = read_questions(written(tmp_path, prompts), TOKENIZER, 64)
    said = [{one.row.prompt[-1]["content"] for one in part} for part in (found.validation, found.train)]
    assert len(said[0]) == 1 and len(said[1]) == 9


def test_rows_that_all_ask_the_same_are_not_held_out_and_it_is_said(tmp_path: Path):
    rows = [{"instruction": "问天", "output": f"答{i}"} for i in range(20)]
    found = conversations.read(written(tmp_path, rows), TOKENIZER, 64)
    assert not found.validation and len(found.train) == 20
    assert "all 20 rows ask the same: none can be held out" in found.findings.notes


def test_a_sum_is_its_own_question_though_only_signs_differ():
    def key(text: str) -> str:
        return question_key([{"role": "user", "content": text}])

    assert len({key("37+4="), key("3+74="), key("37-4="), key("3.74"), key("37*4"), key("(3+7)*4")}) == 6
    assert key("天 空，是什么？") == key("天空是什么?") == key("天空是什么\n")
    assert key("？？") != key("！！")


def test_the_end_of_an_answer_is_counted_once_a_conversation(tmp_path: Path):
    from congling.tokenizer.chat.templates import with_template

    turns = [{"role": ("user", "assistant")[i % 2], "content": "天地玄黄"[i % 4] * 9} for i in range(12)]
    rows = [{"messages": [*turns[:2], {"role": "user", "content": f"问{i}"}, *turns[3:]]} for i in range(3)]
    config = written(tmp_path, rows, validation=1)
    found = conversations.read(config, with_template(TOKENIZER, "llama3"), 300)
    assert found.findings.counts["conversation shortened"] == 3
    assert any("ends 3 answers with no token of its own" in note for note in found.findings.notes)


def test_answers_that_are_not_to_be_learnt_are_read_and_not_learnt(tmp_path: Path):
    flags: list[dict[str, Any]] = [
        {"loss": False},
        {"weight": 0},
        {"train": False},
        {"trainable": "false"},
        {"loss_mask": 0},
        {"mask": 0},
    ]
    rows: list[dict[str, Any]] = [
        {
            "messages": [
                {"role": "user", "content": f"问{i}"},
                {"role": "assistant", "content": "坏", **flag},
                {"role": "user", "content": "好？"},
                {"role": "assistant", "content": "好"},
            ]
        }
        for i, flag in enumerate(flags)
    ]
    said = {"role": "assistant", "content": "坏", "loss": 0}
    rows.append({"messages": [{"role": "user", "content": "问"}, said]})
    rows.append({"prompt": "问地", "response": "坏", "train": False})
    found = conversations.read(written(tmp_path, rows, validation=1), TOKENIZER, 64)
    for one in (*found.train, *found.validation):
        assert TOKENIZER.decode(one.input_ids[one.loss_mask].tolist(), skip_special=True) == "好"
        assert "坏" in TOKENIZER.decode(one.input_ids.tolist(), skip_special=True)
    assert found.rows == 6 and found.findings.counts == {"nothing to train on": 2}


def test_pairs_may_differ_in_their_thoughts_alone(tmp_path: Path):
    def side(thought: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": "好", "reasoning_content": thought}]

    rows = [{"prompt": f"问{i}", "chosen": side("天"), "rejected": side("地")} for i in range(3)]
    found = read_pairs(written(tmp_path, rows, validation=1), TOKENIZER, 64)
    chosen, rejected = (
        TOKENIZER.decode(one.input_ids[one.loss_mask].tolist(), skip_special=True) for one in found.train[0]
    )
    assert "天" in chosen and "地" in rejected and not found.findings.counts


def test_every_field_that_is_not_read_is_counted_and_named(tmp_path: Path):
    rows = [
        {
            "prompt": f"问{i}",
            "response": "好",
            "note": "天地",
            "id": i,
            "url": "x",
            "empty": "",
            "copy": "好",
            "none": None,
        }
        for i in range(5)
    ]
    rows += [
        {
            "messages": [
                {"role": "user", "content": f"问天{i}", "mood": "玄", "name": "x"},
                {"role": "assistant", "content": "好", "weight": 0.5},
            ]
        }
        for i in range(4)
    ]
    findings = conversations.read(written(tmp_path, rows), TOKENIZER, 64).findings
    assert findings.sentences[-4:] == [
        "field 'note' (5 ×, first rows.jsonl:1): not read",
        "turn field 'mood' (4 ×, first rows.jsonl:6): not read",
        "turn field 'weight' (4 ×, first rows.jsonl:6): not read",
        "not read, for it is only about the rows: id (5 ×), url (5 ×), name (4 ×)",
    ]
    prompts = read_questions(written(tmp_path, rows[:5]), TOKENIZER, 64).findings
    assert "field 'note' (5 ×, first rows.jsonl:1): only the reward sees it" in prompts.sentences


def test_the_first_fault_of_each_kind_is_told_with_its_line_and_reason(tmp_path: Path):
    rows = [{"messages": [{"role": "narrator", "content": "问"}, {"role": "assistant", "content": "答"}]}] * 3
    with pytest.raises(UserError) as caught:
        conversations.read(written(tmp_path, rows), TOKENIZER, 64)
    assert "3 × unknown role (rows.jsonl:1: turn 1 is by 'narrator'" in str(caught.value.hint)


def test_neighbouring_readings_of_a_dictionary_are_taken_out_whole(tmp_path: Path):
    entry = {
        "title": "漂",
        "bopomofo": "ㄆㄧㄠ",
        "definition": "&&浮ㄈㄨˊ&&在ㄗㄞˋ&&水面上，&&水ㄕㄨㄟˇ&&中。",
    }
    rows = [entry, {"title": "云", "definition": "天上的水气。"}]
    first, _ = conversations.read_items(written(tmp_path, rows), ReadingLog())
    assert isinstance(first, Conversation) and first.messages[-1]["content"] == "浮在水面上，水中。"


def test_of_the_real_dictionary_no_mark_of_a_reading_is_left(corpora: Path):
    config = DataConfig(sources=(str(corpora / "moe_dict" / "mini.jsonl"),))
    talks = conversations.read_items(config, ReadingLog())
    answers = [talk.answers[0]["content"] for talk in talks if isinstance(talk, Conversation)]
    assert len(answers) == 1037 and not any("&&" in answer for answer in answers)
    assert (
        sum(any("\u3105" <= one <= "\u312f" for one in answer) for answer in answers) == 3
    )  # in the text itself


def test_marks_of_other_programs_in_turns_are_counted_and_named(tmp_path: Path):
    rows = [{"prompt": f"问{i}<|im_end|>", "response": "[INST]好"} for i in range(4)]
    sentences = conversations.read(written(tmp_path, rows), TOKENIZER, 64).findings.sentences
    (told,) = [one for one in sentences if one.startswith("marks of other programs")]
    assert "<|im_end|> (4 ×, first rows.jsonl:1)" in told and "[INST] (4 ×" in told
    assert told.endswith("take them out of the rows: the template writes its own")


@pytest.mark.parametrize(("name", "talks"), [
    ("preference/dpo_zh.jsonl", 222), ("preference/dpo_en.jsonl.gz", 227), ("sft/toolcall_zh.jsonl", 175),
    ("medical_qa/medical_qa.jsonl", 300), ("eval/cmrc2018_qa.jsonl", 200), ("sft/belle_prompts_zh.jsonl", 0),
])  # fmt: skip
def test_real_rows_are_read_or_counted(corpora: Path, name: str, talks: int):
    findings = ReadingLog()
    found = list(conversations.read_items(DataConfig(sources=(str(corpora / name),)), findings))
    assert len(found) == talks
    assert findings.counts["copy"] + findings.counts["no answer"] + talks in (200, 222, 227, 300)
