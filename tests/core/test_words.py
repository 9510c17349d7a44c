"""Settings and inputs on a command line, however settings are spaced."""

from pathlib import Path

import pytest

from congling.core.config import with_overrides
from congling.core.words import joined_words, separate


@pytest.mark.parametrize(
    ("words", "joined"),
    [
        (["train.max_steps", "=", "100"], ["train.max_steps=100"]),
        (["train.max_steps", "=100"], ["train.max_steps=100"]),
        (["train.max_steps=", "100"], ["train.max_steps=100"]),
        (["a.txt", "budget", "=", "15m", "b.txt"], ["a.txt", "budget=15m", "b.txt"]),
        (["a=1", "b=", "c=2"], ["a=1", "b=", "c=2"]),
        (["a", "=", "=b"], ["a==b"]),
        (["text", "=", "{a} b"], ["text={a} b"]),
        (["="], ["="]),
        (["书.txt", "=", "1"], ["书.txt", "=", "1"]),
        ([], []),
    ],
)
def test_spaces_around_the_sign(words: list[str], joined: list[str]) -> None:
    assert joined_words(words) == joined


def test_spaced_settings_are_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x=1.txt").write_text("a")
    assert separate(["x=1.txt", "train.max_steps", "=", "9"]) == ([Path("x=1.txt")], ["train.max_steps=9"])
    assert with_overrides({}, ["train.max_steps", "=", "9", "seed=1"]) == {
        "train": {"max_steps": 9},
        "seed": 1,
    }
    assert separate(["x" * 5000, "y" * 5000 + "=1"]) == ([Path("x" * 5000)], ["y" * 5000 + "=1"])
