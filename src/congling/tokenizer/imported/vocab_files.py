"""``vocab.json`` and ``merges.txt``, the older form of a byte-level vocabulary, as a ``tokenizer.json``.

The two do not say how texts are split: the class of the tokenizer does, as transformers has it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from congling.core.errors import UserError
from congling.tokenizer import library
from congling.tokenizer.imported.side_files import named

VOCABULARY, MERGES = "vocab.json", "merges.txt"
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_CLASSES = {"GPT2Tokenizer": "gpt2", "Qwen2Tokenizer": "qwen2"}
_MODELS = {"gpt2": "gpt2", **dict.fromkeys(("qwen2", "qwen2_moe", "qwen3", "qwen3_moe"), "qwen2")}
END = "<|endoftext|>"
"""What ends a text where the files do not say it."""


def present(folder: Path) -> bool:
    """Whether both files are there."""
    return (folder / VOCABULARY).is_file() and (folder / MERGES).is_file()


def as_json(folder: Path, settings: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    """The text of the ``tokenizer.json`` that says the same.

    Args:
        folder: where the files are.
        settings: of the files beside.
        model: ``config.json``, which tells the class where no file names it.

    Raises:
        UserError: a file is damaged, or the class is none whose split is known here.
    """
    kind = _kind(folder, settings, model)
    vocabulary, merges = _vocabulary(folder / VOCABULARY), _merges(folder / MERGES)
    roles = [named(settings.get(f"{role}_token")) for role in ("bos", "eos", "pad", "unk")]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [
        {"id": vocabulary[text], "content": text, **flags, "special": True}
        for text in dict.fromkeys([*roles, END])
        if text in vocabulary
    ]
    symbols = {
        "type": "ByteLevel",
        "add_prefix_space": bool(settings.get("add_prefix_space")),
        "trim_offsets": True,
        "use_regex": kind == "gpt2",
    }
    split = {"type": "Split", "pattern": {"Regex": _QWEN2}, "behavior": "Isolated", "invert": False}
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": sorted(added, key=lambda token: token["id"]),
            "normalizer": {"type": "NFC"} if kind == "qwen2" else None,
            "pre_tokenizer": symbols
            if kind == "gpt2"
            else {"type": "Sequence", "pretokenizers": [split, symbols]},
            "post_processor": None,
            "decoder": {
                "type": "ByteLevel",
                "add_prefix_space": True,
                "trim_offsets": True,
                "use_regex": True,
            },
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": False,
                "vocab": vocabulary,
                "merges": merges,
            },
        },
        ensure_ascii=False,
    )


def _vocabulary(file: Path) -> dict[str, int]:
    try:
        vocabulary = json.loads(library.read_text(file))
    except (ValueError, RecursionError):
        raise UserError("this is no JSON", where=file) from None
    if not isinstance(vocabulary, dict) or not all(type(index) is int for index in vocabulary.values()):
        raise UserError("this should be an object of tokens and their ids", where=file)
    return vocabulary


def _merges(file: Path) -> list[list[str]]:
    lines = library.read_text(file).split("\n")
    merges = [
        line.rstrip("\r").split(" ") for line in lines if line.strip() and not line.startswith("#version")
    ]
    if odd := next((pair for pair in merges if len(pair) != 2), None):
        raise UserError("a merge is two tokens with a space between", where=file, value=" ".join(odd))
    return merges


def _kind(folder: Path, settings: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    """How texts are split, by the class of the tokenizer, else by that of the model."""
    name = settings.get("tokenizer_class") or model.get("tokenizer_class")
    if isinstance(name, str):
        found = _CLASSES.get(name.removesuffix("Fast"))
    else:
        name = model.get("model_type")
        found = _MODELS.get(name) if isinstance(name, str) else None
    if found is None:
        raise UserError(
            "vocab.json and merges.txt do not say how texts are split, and this class is not known here",
            where=folder,
            value=name,
            hint=f"put the tokenizer.json of this vocabulary beside them; known are {', '.join(_CLASSES)} "
            f"(tokenizer_class) and models of the type {', '.join(_MODELS)}",
        )
    return found
