"""A ``tokenizer.json`` for texts alone, whose special tokens no text can spell.

Special tokens may be reached in four ways: as added tokens that are looked for in texts, as pieces of a
unigram vocabulary, by the merges of a BPE, and as a whole word where merges are ignored. Here they have
names that nobody knows, and keep their ids.
"""

import re
import secrets
from collections.abc import Mapping
from typing import Any

_BYTE = re.compile("<0x[0-9A-F]{2}>")
_MARK = re.compile(
    r"<\|[^\s<>|]{1,40}\|>|<｜[^\s<>｜]{1,40}｜>|<(?:start|end)_of_[a-z]{1,20}>|\[/?(?:INST|SYSTEM_PROMPT)\]"
)
Node = dict[str, Any]
_BYTES_APART: Node = {
    "type": "Split", "pattern": {"Regex": "<(?=0x[0-9A-F]{2}>)"}, "behavior": "Isolated", "invert": False,
}  # fmt: skip
"""Cuts ``<0x0A>`` in a text, which a unigram would take for the byte."""


def spelt_as_mark(text: str) -> bool:
    """Whether an ordinary piece has the form of a mark of conversations; learnt pieces have none."""
    return _MARK.fullmatch(text) is not None


def unreachable(content: Node, special: Mapping[str, int]) -> Node:
    """The same tokenizer, but no text gives one of these tokens, nor the bytes that texts only spell."""
    secret = secrets.token_hex(16)
    model = dict(content["model"])
    falls_back = model.get("byte_fallback")  # which finds its bytes by their names
    known = {text: index for text, index in special.items() if not (falls_back and _BYTE.fullmatch(text))}
    names = {text: f"\ue000{secret}{index}" for text, index in known.items()}
    if isinstance(model.get("vocab"), dict):
        model["vocab"] = {names.get(text, text): index for text, index in model["vocab"].items()}
        model["merges"] = [pair for pair in model.get("merges") or () if not _makes(pair, names)]
    else:
        model["vocab"] = [[names.get(entry[0], entry[0]), *entry[1:]] for entry in model["vocab"]]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    added = [_renamed(token, names) for token in content.get("added_tokens") or ()]
    changed = content | {"model": model, "added_tokens": added, "post_processor": None}
    if model.get("type") == "Unigram" and model.get("byte_fallback"):
        first = content.get("pre_tokenizer")
        steps = [_BYTES_APART] if first is None else [first, _BYTES_APART]
        changed["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    return changed


def _renamed(token: Node, names: Mapping[str, str]) -> Node:
    if token["content"] not in names:
        return token
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return token | plain | {"content": names[token["content"]]}


def _makes(pair: Any, names: Mapping[str, str]) -> bool:
    """Whether a merge makes a special token, or is made of one."""
    left, _, right = pair.partition(" ") if isinstance(pair, str) else (pair[0], "", pair[1])
    return left in names or right in names or left + right in names
