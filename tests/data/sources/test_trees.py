"""Trees of replies, transcripts and pairs under other names: read as what they are, and said."""

import json
from pathlib import Path
from typing import Any

import pytest

from congling.data.config import DataConfig
from congling.data.problems import ReadingLog
from congling.data.sources import reading
from congling.data.tuning import chat_rows
from congling.data.tuning.preference_rows import pair_of
from congling.data.tuning.preferences import preference_items
from congling.data.tuning.row_inspection import look
from congling.data.tuning.row_kinds import Sort


def tree(i: int) -> dict[str, Any]:
    """A question, two answers of which the second is the better, and a second round."""

    def turn(role: str, text: str, rank: int | None = None, *replies: dict[str, Any]) -> dict[str, Any]:
        return {
            "message_id": f"{i}{text}",
            "role": role,
            "text": text,
            "rank": rank,
            "replies": list(replies),
        }

    thanks = turn("prompter", "谢谢", None, turn("assistant", "不客气", 0))
    worse, better = turn("assistant", "不知道", 1), turn("assistant", f"是{i}", 0, thanks)
    return {"message_tree_id": str(i), "prompt": turn("prompter", f"问{i}", None, worse, better)}


def lines(node: dict[str, Any], parent: str | None = None) -> list[dict[str, Any]]:
    """The messages of a tree one by one, the last first."""
    rest = {key: value for key, value in node.items() if key != "replies"}
    below = [line for one in node["replies"] for line in lines(one, node["message_id"])]
    return [*reversed(below), {**rest, "parent_id": parent}]


def written(path: Path, rows: list[Any]) -> DataConfig:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return DataConfig(sources=(str(path),))


def talks(config: DataConfig) -> tuple[list[list[tuple[str, str]]], ReadingLog]:
    findings = ReadingLog()
    found = list(reading.read(config.sources, config, findings, chat_rows.take))
    return [[(turn["role"], turn["content"]) for turn in talk.messages] for talk in found], findings


@pytest.mark.parametrize("flat", [False, True])
def test_of_a_tree_the_best_replies_are_a_conversation_and_the_others_are_counted(tmp_path: Path, flat: bool):
    trees = [tree(i) for i in range(3)]
    rows = [line for one in trees for line in lines(one["prompt"])] if flat else trees
    found, findings = talks(written(tmp_path / "trees.jsonl", rows))
    assert found == [
        [("user", f"问{i}"), ("assistant", f"是{i}"), ("user", "谢谢"), ("assistant", "不客气")]
        for i in range(3)
    ]
    assert findings.counts == {"further replies": 3}
    assert any("trees of replies" in note for note in findings.notes)


def test_messages_that_belong_to_no_tree_are_named(tmp_path: Path):
    rows = [line for i in range(4) for line in lines(tree(i)["prompt"])]
    circle = [
        {"message_id": a, "parent_id": b, "role": "assistant", "text": a} for a, b in (("x", "y"), ("y", "x"))
    ]
    orphan = {"message_id": "z", "parent_id": "gone", "role": "assistant", "text": "z"}
    found, findings = talks(written(tmp_path / "lines.jsonl", [*rows, *circle, orphan, rows[0]]))
    assert len(found) == 4
    assert sum(findings.counts.values()) - findings.counts["further replies"] == 4


def test_transcripts_with_hashes_in_a_text_field_are_conversations(tmp_path: Path):
    rows = [
        {"text": f"### Human: 问{i}\n二### Assistant: 答{i}### Human: 再### Assistant: 好"} for i in range(3)
    ]
    config = written(tmp_path / "guanaco.jsonl", rows)
    found, findings = talks(config)
    assert found == [
        [("user", f"问{i}\n二"), ("assistant", f"答{i}"), ("user", "再"), ("assistant", "好")]
        for i in range(3)
    ]
    assert any("transcripts" in note for note in findings.notes) and not findings.counts
    shown = look(config)
    assert shown is not None and shown.sort is Sort.CONVERSATIONS
    plain = written(
        tmp_path / "plain.jsonl", [{"text": f"这是一段{i}。\n### 标题\nHuman: 是人。"} for i in range(3)]
    )
    assert look(plain) is None


PAIRS = [
    {"prompt": "问", "response_0": "坏", "response_1": "好", "better_response_id": 1, "safer_response_id": 0},
    {"prompt": "问", "response_0": "好", "response_1": "坏", "better_response_id": "0"},
    {"instruction": "问", "input": "", "output": ["好", "坏"]},
]


@pytest.mark.parametrize("row", PAIRS)
def test_pairs_under_other_names(tmp_path: Path, row: dict[str, Any]):
    rows = [
        {key: f"{value}{i}" if value in ("问",) else value for key, value in row.items()} for i in range(3)
    ]
    config, findings = written(tmp_path / "pairs.jsonl", rows), ReadingLog()
    found = list(preference_items(config, findings, pair_of))
    assert [
        (pair.prompt[0]["content"], pair.chosen["content"], pair.rejected["content"]) for pair in found
    ] == [(f"问{i}", "好", "坏") for i in range(3)]
    assert any("pairs" in note for note in findings.notes) and not findings.counts
    shown = look(config)
    assert shown is not None and shown.sort is Sort.PAIRS
    assert [talk[-1] for talk in talks(config)[0]] == [("assistant", "好")] * 3


def test_what_says_not_which_is_better_is_no_pair(tmp_path: Path):
    row = {"prompt": "问", "response_0": "甲", "response_1": "乙", "better_response_id": 2}
    findings = ReadingLog()
    assert not list(preference_items(written(tmp_path / "a.jsonl", [row] * 3), findings, pair_of))
    assert findings.counts == {"no preference": 3}


def test_documents_of_rows_with_a_history_keep_it_and_of_a_tree_its_replies(tmp_path: Path):
    rows = [
        {"instruction": f"问{i}", "output": "答", "history": [["早", "你好"]], "system": "你是"}
        for i in range(3)
    ]
    for name, given, said in (
        ("a", rows, "你是\n早\n你好\n问0\n答"),
        ("b", [tree(0), tree(1)], "问0\n是0\n谢谢\n不客气"),
    ):
        config = written(tmp_path / f"{name}.jsonl", given)
        assert next(iter(reading.read(config.sources, config, ReadingLog()))).text == said
