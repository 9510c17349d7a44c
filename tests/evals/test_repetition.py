import pytest

from congling.data.repetition import repeated_share
from congling.evals import repetition
from congling.evals.bench import Bench
from congling.evals.repetition import distinct, longest_loop, measured


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0), ("天", 0), ("天地玄黄宇宙洪荒", 0), ("天天", 2), ("前天地天地天地后", 6),
        ("云" + "小猫，" * 7, 21), ("天地玄黄" * 3 + "日日", 12),
    ],
)  # fmt: skip
def test_longest_loop(text: str, expected: int):
    assert longest_loop(text) == expected


def test_shares_of_different_pieces():
    assert distinct(["天地", "天地"], 2) == 0.5 and distinct(["天"], 2) == 0.0
    assert repeated_share("天地玄黄宇宙洪荒") == 0.0
    assert repeated_share("天地玄黄宇宙洪荒" * 2) == pytest.approx(1 / 9)  # 9 pieces, the last is the first


def test_a_looping_writer_is_told_from_a_person():
    found = {score.name: score for score in measured("x", ["小猫，" * 20, "天地玄黄宇宙洪荒"], "")}
    assert found["repetition/x/looping"].value == 0.5 and found["repetition/x/longest"].value == 60
    assert measured("x", ["", " "], "") == []


def test_real_texts_are_cut_to_what_is_written(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def written(loaded: object, prompts: list[list[int]], **_: object) -> list[str]:
        asked.append(prompts)
        return ["天" * 30 for _ in prompts]

    monkeypatch.setattr(repetition, "written", written)
    found = {score.name: score for score in repetition.run(bench)}
    assert found["repetition/greedy/looping"].value == 1.0
    assert found["repetition/held-out/looping"].reference
    assert all(len(prompt) == 9 for prompt in asked[0])  # what a text begins with, and 8 tokens
