"""Preferences are read as all other text is: cleaned, each once, faults counted."""

import json
from pathlib import Path

from congling.data.config import DataConfig, SplitConfig
from congling.data.tuning.preferences import read_pairs, read_questions
from congling.tokenizer.character import CharacterTokenizer

TOKENIZER = CharacterTokenizer("天地玄黄宇宙洪荒日月盈昃问")


def written(folder: Path, rows: list[dict[str, object]]) -> DataConfig:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return DataConfig(sources=(str(file),), split=SplitConfig(validation=1))


def test_what_cannot_be_seen_is_taken_out_before_answers_are_compared(tmp_path: Path):
    rows: list[dict[str, object]] = [
        {"prompt": "问天", "chosen": "玄\ud800", "rejected": "黄"},
        {"prompt": "问天", "chosen": "玄", "rejected": "黄\u200b"},
        {"prompt": "问地", "chosen": "宇", "rejected": "宇\u200b"},
        {"prompt": "问日", "chosen": "\u200b", "rejected": "月"},
    ]
    found = read_pairs(written(tmp_path, rows), TOKENIZER, 64)
    assert found.findings.counts == {"copy": 1, "chosen equals rejected": 1, "no preference": 1}
    (pair,) = [*found.train, *found.validation]
    said = [TOKENIZER.decode(side.input_ids[side.loss_mask].tolist(), skip_special=True) for side in pair]
    assert said == ["玄", "黄"]


def test_questions_are_cleaned_and_their_rows_stay_for_the_reward(tmp_path: Path):
    rows: list[dict[str, object]] = [{"prompt": "问\ud800天", "answer": "玄", "topic": "\u200b"}]
    found = read_questions(written(tmp_path, rows), TOKENIZER, 64)
    (question,) = [*found.train, *found.validation]
    assert question.row.prompt[-1]["content"] == "问天"
    assert question.row.fields["topic"] == "\u200b"
