"""Tokenizers from outside that are made to take time or memory, or to break on a text."""

import json
from pathlib import Path
from typing import Any

import pytest

from congling.core.errors import UserError
from congling.interop.gguf.file import Field
from congling.interop.gguf.vocabulary_reading import tokenizer_from
from congling.tokenizer.imported import read

VOCABULARY = {chr(i): i for i in range(256)} | {"<s>": 256}
BASE: dict[str, Any] = {
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
    "pre_tokenizer": {
        "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False
    },
    "post_processor": None, "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": VOCABULARY, "merges": []},
}  # fmt: skip


def split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def steps(*found: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": [*found, BASE["pre_tokenizer"]]}


def opened(folder: Path, **parts: Any) -> Any:
    (folder / "tokenizer.json").write_text(json.dumps(BASE | parts), encoding="utf-8")
    return read.read(folder / "tokenizer.json")


@pytest.mark.parametrize("pattern", [r"(?:x+x+)+y", r"(x*)*y", r"(?:(?:x|xx)+)+$y", r"(?=(x+x+)+y)"])
def test_a_pattern_that_gives_up_is_one_error(tmp_path: Path, pattern: str) -> None:
    try:
        tokenizer = opened(tmp_path, pre_tokenizer=steps(split(pattern)))
        for encode in (tokenizer.encode, tokenizer.encode_rest, lambda text: tokenizer.encode_batch([text])):
            encode("x" * 3000)
    except UserError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("part", "inner"), [("pre_tokenizer", "pretokenizers"), ("normalizer", "normalizers")]
)
def test_steps_without_end_are_refused(tmp_path: Path, part: str, inner: str) -> None:
    one = {"type": "NFC"} if part == "normalizer" else BASE["pre_tokenizer"]
    with pytest.raises(UserError, match="steps of normalising and splitting"):
        opened(tmp_path, **{part: {"type": "Sequence", inner: [one] * 8000}})
    (tmp_path / "tokenizer.json").write_text(
        json.dumps(BASE | {part: "HERE"}).replace(
            '"HERE"', f'{{"type": "Sequence", "{inner}": [' * 600 + json.dumps(one) + "]}" * 600
        )
    )
    with pytest.raises(UserError):
        read.read(tmp_path / "tokenizer.json")


def test_tokens_without_end_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a token of more than"):
        opened(tmp_path, model=BASE["model"] | {"vocab": VOCABULARY | {"x" * 100_000: 257}})
    with pytest.raises(UserError, match="a token of more than"):
        added = {
            "id": 257,
            "content": "x" * 100_000,
            "special": False,
            "lstrip": False,
            "rstrip": False,
            "single_word": False,
            "normalized": False,
        }
        opened(tmp_path, added_tokens=[added])
    tokens = ["a", "b", "x" * 100_000]
    with pytest.raises(UserError, match="a token of more than"):
        tokenizer_from(
            {
                "tokenizer.ggml.model": Field("string", "llama"),
                "tokenizer.ggml.tokens": Field("array:string", tokens),
                "tokenizer.ggml.scores": Field("array:f32", [0.0] * 3),
            }
        )
