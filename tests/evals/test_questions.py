import json
from pathlib import Path

import pytest

from congling.core.errors import UserError
from congling.data.problems import ReadingLog
from congling.evals.questions import question_of, questions

GOOD = {"question": "天地？", "A": "玄", "B": "黄", "C": "宇", "answer": "B", "subject": "x"}
ENDINGS = {"premise": "天地。", "choice1": "玄。", "choice2": "黄。", "question": "effect", "label": 1}


def test_both_kinds_of_question():
    found = question_of(GOOD, "a:1")
    assert (found.text, found.options, found.right, found.group) == ("天地？", ("玄", "黄", "宇"), 1, "x")
    found = question_of(ENDINGS, "a:2")
    assert (found.text, found.joined, found.right) == ("天地", "，所以", 1)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([1], "no object"),
        ({}, "fewer than two options"),
        (GOOD | {"answer": "D"}, "none of its options"),
        (GOOD | {"answer": ["A"]}, "none of its options"),
        (GOOD | {"B": ""}, "B is missing"),
        (GOOD | {"B": "玄"}, "two options are equal"),
        (GOOD | {"question": None}, "question is missing"),
        (GOOD | {"A": "天" * 30_000}, "longer than"),
        (ENDINGS | {"label": True}, "neither 0 nor 1"),
        (ENDINGS | {"label": 2}, "neither 0 nor 1"),
        (ENDINGS | {"question": "why"}, "neither cause nor effect"),
        (ENDINGS | {"question": []}, "neither cause nor effect"),
        (ENDINGS | {"choice2": 5}, "choice2 is missing"),
    ],
)
def test_a_row_that_is_no_question_says_why(row: object, reason: str):
    with pytest.raises(ValueError, match=reason):
        question_of(row, "a:1")


def test_faulty_rows_of_a_file_are_counted_and_named(tmp_path: Path):
    file = tmp_path / "quiz.jsonl"
    lines = [json.dumps(GOOD), "{broken", json.dumps(GOOD | {"answer": "Z"}), json.dumps(ENDINGS)]
    file.write_text("\n".join(lines), encoding="utf-8")
    findings = ReadingLog()
    assert [question.id for question in questions([str(file)], findings)] == ["quiz.jsonl:1", "quiz.jsonl:4"]
    assert findings.counts == {"broken record": 1, "no question": 1}


def test_no_question_at_all(tmp_path: Path):
    (tmp_path / "book.txt").write_text("天地玄黄", encoding="utf-8")
    with pytest.raises(UserError, match="no question with options"):
        questions([str(tmp_path / "book.txt")], ReadingLog())
    with pytest.raises(UserError, match="needs a file"):
        questions([], ReadingLog())


def test_the_sample_sets_are_read_whole(corpora: Path):
    sizes = {"eval_nc/cmmlu.jsonl": 200, "eval/gaokao_mcq.jsonl": 150, "eval/xcopa_zh.jsonl": 100}
    for name, size in sizes.items():
        findings = ReadingLog()
        found = questions([str(corpora / name)], findings)
        assert len(found) + findings.counts["no question"] == size and len(found) >= size - 5


@pytest.mark.parametrize(
    "answer", ["B", "b", "Ｂ", " B ", "B.", "(B)", "（Ｂ）", "B、上海", "B. 上海", "上海"]
)
def test_the_right_option_is_named_by_its_letter_or_its_text(answer: str) -> None:
    row = {"question": "最大的城市？", "A": "北京", "B": "上海", "answer": answer}
    assert question_of(row, "quiz.jsonl:1").right == 1


@pytest.mark.parametrize("answer", ["", "AB", "C", "不知道", "DNA", "A or B"])
def test_no_single_option_is_no_question(answer: str) -> None:
    with pytest.raises(ValueError, match="none of its options"):
        question_of({"question": "？", "A": "北京", "B": "上海", "answer": answer}, "quiz.jsonl:1")
