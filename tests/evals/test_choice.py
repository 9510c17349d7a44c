import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from congling.evals import choice
from congling.evals.bench import Bench
from congling.evals.choice import chance, first_letter, listed, opening
from congling.evals.likelihood import score_rows
from congling.evals.questions import Question, questions
from congling.evals.windows import Row
from congling.infer.prompts import prompt_ids

ASKED = [
    Question("天地？", ("玄黄", "宇宙洪荒", "日月", "盈"), 2, "q:1", "a"),
    Question("学而时习之", ("不亦说乎。", "从零开始。"), 0, "q:2", "b", "，所以"),
]


def quiz(folder: Path, rows: int = 6) -> str:
    file = folder / "quiz.jsonl"
    letters = "天地玄黄宇宙洪荒日月"
    lines = [
        {
            "question": f"{letters[i]}？",
            "A": letters[i + 1],
            "B": "学而时习之",
            "C": letters[i + 3] * 2,
            "answer": "ABC"[i % 3],
            "subject": f"s{i % 2}",
        }
        for i in range(rows)
    ]
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return str(file)


def test_the_likeliest_option_is_chosen(bench: Bench):
    found = choice.option_nats(ASKED, bench, opening)
    for question, nats in zip(ASKED, found, strict=True):
        for option, cost in zip(question.options, nats, strict=True):
            before = prompt_ids(bench.loaded.tokenizer, opening(question))
            whole = prompt_ids(bench.loaded.tokenizer, opening(question) + option)
            alone = score_rows(bench.loaded.model, [Row(whole, len(before))])[0].total
            assert cost == pytest.approx(alone, abs=1e-4)
    scores = {score.name: score for score in choice.likelihood_scores("choice", ASKED, bench, prompt=opening)}
    right = [int(np.argmin(nats)) == one.right for nats, one in zip(found, ASKED, strict=True)]
    assert scores["choice/sum"].value == sum(right) / 2
    assert scores["choice/sum"].chance == chance(ASKED) == (1 / 4 + 1 / 2) / 2
    assert scores["choice/shortest"].value == 0.5 and scores["choice/shortest"].reference
    assert {"choice/sum/a", "choice/sum/b"} <= scores.keys()


def test_normalised_and_summed_differ_by_length(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    costs = [np.array([4.0, 6.0, 9.0, 9.0]), np.array([5.0, 5.5])]
    monkeypatch.setattr(choice, "option_nats", lambda *_: costs)
    asked = [replace(ASKED[0], right=1), ASKED[1]]
    scores = {score.name: score for score in choice.likelihood_scores("choice", asked, bench, prompt=opening)}
    assert scores["choice/sum"].value == 0.5  # the first by its length: 4 nats for two characters
    assert scores["choice/normalised"].value == 1.0  # 6 / 4 < 4 / 2


@pytest.mark.parametrize(
    ("text", "expected"), [("A", 0), ("答案是Ｂ。", 1), ("E", None), ("", None), ("b", 1), ("\nD", 3)]
)
def test_the_first_letter_of_an_option_counts(text: str, expected: int | None):
    assert first_letter(text, 4) == expected


def test_letters_are_asked_for_and_the_ill_formed_are_wrong(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    bench = replace(bench, files=[quiz(tmp_path)])
    asked = questions(bench.files, bench.findings)
    replies = ["A", "天", "C。", "C", "B", "C"]  # right answers are A B C A B C
    monkeypatch.setattr(choice, "written", lambda *_, **__: replies)
    scores = {score.name: score for score in choice.letters(bench)}
    assert scores["letter/written"].value == 4 / 6 and scores["letter/well-formed"].value == 5 / 6
    assert scores["letter/written"].chance == pytest.approx(1 / 3)
    right = [question.right for question in asked]
    assert scores["letter/one-letter"].value == max(map(right.count, right)) / 6
    assert scores["letter/one-letter"].reference
    assert listed(asked[0]).endswith("A. 地\nB. 学而时习之\nC. 黄黄\n答案：")


def test_solved_questions_of_the_same_subject_come_first(bench: Bench, tmp_path: Path):
    file = quiz(tmp_path)
    bench = replace(bench, examples=[file], shots=2)
    shots = choice.Shots.of(bench)
    question = Question("玄？", ("黄", "宇"), 0, "q:9", "s1")
    room = replace(shots, room=lambda _: True)
    assert room.before(question).count("题目：") == 2 and room.before(question).startswith("题目：地？")
    assert shots.before(question).count("题目：") <= 2  # as many as fit
    assert replace(shots, room=lambda _: False).before(question) == ""


def test_a_chat_is_asked_for_the_letter_through_its_template(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen = []

    def written(loaded: object, prompts: list[list[int]], **_: object) -> list[str]:
        seen.extend(prompts)
        return ["A"] * len(prompts)

    monkeypatch.setattr(choice, "written", written)
    found = choice.letters(replace(bench, files=[quiz(tmp_path)], chat=True))
    assert {score.name for score in found} == {"letter/written", "letter/well-formed", "letter/one-letter"}
    assert bench.loaded.tokenizer.special["<|im_start|>"] in seen[0]


def test_a_long_question_is_cut_and_named(bench: Bench):
    choice.option_nats([Question("天" * 100, ("玄", "黄"), 0, "quiz.jsonl:7")], bench, opening)
    assert bench.findings.counts == {"question longer than the context": 1}
    assert bench.findings.examples[0].line == 7
    bench.findings.counts.clear()


def test_a_solved_question_is_never_the_one_that_is_asked(bench: Bench, tmp_path: Path):
    file = quiz(tmp_path)
    shots = replace(choice.Shots.of(replace(bench, examples=[file], shots=9)), room=lambda _: True)
    for asked in questions([file], bench.findings):
        shown = shots.before(asked)
        assert opening(asked) not in shown and shown.count("题目：") == 2  # the others of its subject
    assert bench.findings.counts == {"fewer solved questions than asked for": 6}
    assert bench.findings.examples[0].reason == "2 of 9: no more are given"


def test_solved_questions_without_room_or_of_other_subjects_are_named(bench: Bench, tmp_path: Path):
    shots = choice.Shots.of(replace(bench, examples=[quiz(tmp_path)], shots=2), listed)
    asked = Question("学？", ("习", "说"), 1, "other.jsonl:3", "physics")
    taken: list[bool] = [True, False]
    assert replace(shots, room=lambda _: taken.pop(0)).before(asked).count("题目：") == 1
    assert bench.findings.counts == {
        "fewer solved questions than asked for": 1,
        "solved questions of other subjects": 1,
    }
    assert {example.reason for example in bench.findings.examples} == {
        "1 of 2: no more fit",
        "none of 'physics'",
    }
