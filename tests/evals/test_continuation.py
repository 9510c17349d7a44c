from dataclasses import replace
from pathlib import Path

import pytest

from congling.evals import continuation
from congling.evals.bench import Bench
from congling.evals.continuation import divide
from congling.tokenizer.character import CharacterTokenizer


@pytest.mark.parametrize("length", range(1, 8))
def test_an_entry_is_divided_between_characters(length: int):
    tokenizer = CharacterTokenizer("天地")  # all others are three bytes each
    text = "天龘地龘天地龘天龘龘龘龘龘龘龘龘"
    case = divide(tokenizer, text, length, 40)
    assert case is not None
    given = tokenizer.decode(case.given, skip_special=True)
    assert "\ufffd" not in given + case.truth
    assert text.startswith(given + case.truth)
    assert length <= len(case.given) - 1 < length + 3


def test_an_entry_without_enough_behind_it_is_none():
    tokenizer = CharacterTokenizer("天地")
    assert divide(tokenizer, "天地" * 10, 11) is None and divide(tokenizer, "天地" * 10, 10) is not None
    assert divide(tokenizer, "", 10) is None


def scores(bench: Bench, monkeypatch: pytest.MonkeyPatch, write: object) -> dict[str, float]:
    def written(loaded: object, prompts: list[list[int]], **_: object) -> list[str]:
        texts = [document.text for document in bench.held_out()]
        given = [bench.loaded.tokenizer.decode(ids, skip_special=True) for ids in prompts]
        truths = [next(text for text in texts if text.startswith(one))[len(one) :] for one in given]
        return [write(truth) for truth in truths]  # type: ignore[operator]

    monkeypatch.setattr(continuation, "written", written)
    return {score.name.rpartition("/")[2]: score.value for score in continuation.run(bench)}


def test_whoever_writes_the_truth_is_exact(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    found = scores(bench, monkeypatch, lambda truth: truth)
    assert found["exact"] == found["exact-10"] == found["overlap"] == 1.0


def test_whoever_writes_half_of_it_comes_near(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    found = scores(bench, monkeypatch, lambda truth: truth[:25])
    assert found["exact"] == 0.0 and found["exact-10"] == 1.0
    assert 0.6 < found["overlap"] < 0.75


def test_what_is_recited_is_told_from_the_truth(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    known = next(bench.training())
    found = scores(bench, monkeypatch, lambda truth: known[: len(truth)])
    assert found["copied"] == 1.0 and found["copied-truth"] < 0.5 and found["exact"] == 0.0
    assert found["bits"] > 0


def test_what_cannot_be_asked_is_counted(bench: Bench, documents: Path):
    bench = replace(bench, prefixes=(70, 400), findings=type(bench.findings)())
    assert continuation.run(bench) == []
    assert bench.findings.counts["entry too short for a prefix of 400"] == len(bench.held_out())
    assert bench.findings.counts["prefix longer than the context"] > 0
