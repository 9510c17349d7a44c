"""Texts strung together by other programs: divided at their marks; other marks are named."""

import json
from pathlib import Path

import pytest

from congling.data.config import DataConfig
from congling.data.problems import ReadingLog
from congling.data.separators import divided, separator_of
from congling.data.sources import reading

STORIES = [f"从前有一只兔子，名叫第{i}号。\n它去河边喝水。\n\n后来它搬家了。" for i in range(20)]


def read(path: Path, content: str, **settings: str) -> tuple[list[str], ReadingLog]:
    path.write_text(content, encoding="utf-8")
    findings, config = ReadingLog(), DataConfig.model_validate({"sources": (str(path),), **settings})
    return [document.text for document in reading.read(config.sources, config, findings)], findings


@pytest.mark.parametrize("mark", ["<|endoftext|>", "</s>", "<eos>", "<|end_of_text|>"])
@pytest.mark.parametrize("form", ["{}\n{}\n", "{}{}", "{}{}\n", "{}\n\n{}\n\n"])
def test_known_marks_between_texts_divide_them(tmp_path: Path, mark: str, form: str):
    content = "".join(form.format(story, mark) for story in STORIES)
    found, findings = read(tmp_path / "a.txt", content)
    assert found == STORIES
    assert findings.notes == [f"a.txt is divided into documents: {mark!r}, 20 times between texts"]
    assert not findings.foreign_tokens.counts


def test_a_mark_between_texts_alone_and_marks_that_begin_them(tmp_path: Path):
    assert read(tmp_path / "a.txt", "<|endoftext|>\n".join(f"{one}\n" for one in STORIES))[0] == STORIES
    for begins in ("<|startoftext|>{}<|endoftext|>\n", "[CLS]{}[SEP]\n", "<s>{}\n"):
        assert read(tmp_path / "a.txt", "".join(begins.format(one) for one in STORIES))[0] == STORIES
    content = "\n".join(f"<s>{one}</s>" for one in STORIES)
    assert read(tmp_path / "a.txt", content)[0] == STORIES
    rows = "\n".join(json.dumps({"text": f"<s>{one}</s>"}) for one in STORIES)
    found, findings = read(tmp_path / "a.jsonl", rows)
    assert found == STORIES and "divided at '</s>'" in findings.notes[0]
    rows = json.dumps({"text": "<|endoftext|>".join(STORIES)})
    assert read(tmp_path / "b.jsonl", rows)[0] == STORIES


def test_a_separator_of_ones_own(tmp_path: Path):
    content = "\n=====\n".join(STORIES)
    assert read(tmp_path / "a.txt", content, separator="=====")[0] == STORIES
    rows = json.dumps({"text": content})
    assert read(tmp_path / "a.jsonl", rows, separator="\n=====\n")[0] == STORIES


def test_a_text_that_speaks_of_a_mark_stays_whole_and_it_is_named(tmp_path: Path):
    content = "GPT-2 用 <|endoftext|> 这个记号隔开文本，而 <|endoftext|> 本身也有编号。"
    assert separator_of([content] * 9) == ""
    found, findings = read(tmp_path / "a.txt", content)
    assert found == [content]
    assert "<|endoftext|> (2 ×, first a.txt:1); if one ends documents" in findings.sentences[0]


def test_conversations_under_a_template_are_said_to_be_some(tmp_path: Path):
    turn = "<|im_start|>user\\n问<|im_end|>\\n<|im_start|>assistant\\n答<|im_end|>"
    for text in (
        turn,
        "### Instruction: 问\\n### Response: 答",
        "[gMASK]<sop>[Round 1] 问：在 答：在",
        "[INST] 问 [/INST] 答",
    ):
        _, findings = read(tmp_path / "a.jsonl", f'{{"text": "{text}"}}\n' * 5)
        assert "make rows of messages of them, for sft" in findings.sentences[0]


def test_texts_and_code_without_marks_are_left_alone(tmp_path: Path):
    assert divided("一。", "</s>") == ["一。"]
    for text in ("if a < b and c > d: x[0] = <int>", "<p>一</p> <strong>二</strong>", "## 标题\n[链接](x)"):
        assert not read(tmp_path / "a.txt", text)[1].sentences
