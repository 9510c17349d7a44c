"""A vocabulary in two files: of an unknown class, or damaged, it is refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest

from congling.core.errors import UserError
from congling.tokenizer.imported import read


def folder_of(path: Path, vocabulary: Any, merges: str, **settings: Any) -> Path:
    (path / "vocab.json").write_text(vocabulary if isinstance(vocabulary, str) else json.dumps(vocabulary))
    (path / "merges.txt").write_text(merges)
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    return path


@pytest.mark.parametrize(
    ("vocabulary", "merges", "settings", "said"),
    [
        ({"a": 0}, "", {}, "do not say how texts are split"),
        (
            {"a": 0},
            "",
            {"tokenizer_class": "CLIPTokenizer"},
            "CLIPTokenizer.*\n.*GPT2Tokenizer, Qwen2",
        ),
        ("[", "", {"tokenizer_class": "GPT2Tokenizer"}, "no JSON"),
        (["a"], "", {"tokenizer_class": "GPT2Tokenizer"}, "object of tokens"),
        ({"a": "0"}, "", {"tokenizer_class": "GPT2Tokenizer"}, "object of tokens"),
        ({"a": 0}, "a b c", {"tokenizer_class": "GPT2Tokenizer"}, "two tokens with a space.*a b c"),
        ({"a": 0}, "a b", {"tokenizer_class": "GPT2Tokenizer"}, "no tokenizer.json that can be run"),
        ({"a": 0}, "", {"tokenizer_class": "GPT2Tokenizer"}, "eos_token is no token"),
    ],
)
def test_what_cannot_be_run_is_said(
    vocabulary: Any, merges: str, settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        read.read(folder_of(tmp_path, vocabulary, merges, **settings))


def test_one_of_the_two_alone_is_no_vocabulary(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(UserError, match="vocab.json with merges.txt"):
        read.read(tmp_path)
