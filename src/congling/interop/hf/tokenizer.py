"""Tokenizers as files that ``AutoTokenizer`` loads with equal ids and without foreign code.

``tokenizer.json`` is written from our kinds like this: ``bpe`` and ``hf`` as they are; ``character`` as a BPE
without merges that falls back to bytes; ``unigram`` with plain spaces instead of ``▁``, so that a ``▁`` in
a text stays what it is; sentencepiece models with their normaliser, a BPE's merges being all pairs that
make a piece, the best scored first.

In a text, unlike here, transformers recognises special tokens by default (``split_special_tokens=True``
turns that off).
"""

import base64
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers

from congling.core.errors import UserError
from congling.core.text import write_text
from congling.interop.gguf.pretokenizers import name_of
from congling.tokenizer.base import FIRST_BYTE, FIRST_PIECE, Tokenizer
from congling.tokenizer.bpe import BytePairTokenizer
from congling.tokenizer.character import CharacterTokenizer
from congling.tokenizer.chat.encode import whole_template
from congling.tokenizer.imported.hf_json import HuggingFaceTokenizer, nodes
from congling.tokenizer.imported.sentencepiece import SentencePieceTokenizer
from congling.tokenizer.imported.sentencepiece_file import Algorithm, PieceType, SentencePieceModel
from congling.tokenizer.library import FILE
from congling.tokenizer.unigram import UnigramTokenizer

Node = dict[str, Any]
_LOW = -1_000.0  # score of pieces that text must not reach; below that of any real one
_SPACE = "▁"


def write(tokenizer: Tokenizer, folder: Path, context: int) -> None:
    """Write the files into an existing folder, ``tokenizer.model`` among them where there is one.

    ``context`` is the most tokens the model reads.
    """
    _write(folder / FILE, content(tokenizer))
    named = tokenizer.template_texts | _unknown(tokenizer)
    others = sorted(set(tokenizer.special) - set(named.values()), key=tokenizer.special.__getitem__)
    special = named | ({"additional_special_tokens": others} if others else {})
    _write(folder / "special_tokens_map.json", special)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": tokenizer.adds_bos,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
        "chat_template": whole_template(tokenizer),
    }
    _write(folder / "tokenizer_config.json", special | settings)
    if isinstance(tokenizer, SentencePieceTokenizer | UnigramTokenizer):
        tokenizer.save(folder)


def is_qwen2(tokenizer: Tokenizer) -> bool:
    """Whether transformers' ``Qwen2Tokenizer`` gives the same ids: composed characters, and Qwen's split.

    Of models of the type ``qwen2`` it loads that class, whatever the folder says.
    """
    if not isinstance(tokenizer, HuggingFaceTokenizer) or not tokenizer.byte_level or tokenizer.space_prefix:
        return False
    try:
        split = name_of(tokenizer.content)
    except UserError:
        return False
    return split == "qwen2" and [node["type"] for node in nodes(tokenizer.content.get("normalizer"))] == [
        "NFC"
    ]


def content(tokenizer: Tokenizer) -> Node:
    """``tokenizer.json`` as a dictionary."""
    if isinstance(tokenizer, HuggingFaceTokenizer):
        before = tokenizers.Tokenizer.from_str(tokenizer.text).encode("a").ids
        as_here = before[: len(tokenizer.prefix_ids) + 1] == [
            *tokenizer.prefix_ids,
            *tokenizer.encode("a")[:1],
        ]
        return tokenizer.content if as_here else tokenizer.content | {"post_processor": _prefix(tokenizer)}
    if isinstance(tokenizer, BytePairTokenizer):
        return tokenizer.content | {"post_processor": _prefix(tokenizer)}
    if isinstance(tokenizer, CharacterTokenizer):
        return _characters(tokenizer)
    if isinstance(tokenizer, UnigramTokenizer):
        return _unigram(tokenizer)
    assert isinstance(tokenizer, SentencePieceTokenizer)
    return _sentencepiece(tokenizer)


def _write(file: Path, value: Node) -> None:
    write_text(file, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def _unknown(tokenizer: Tokenizer) -> dict[str, str]:
    """The token for what is unknown, where text can lead to it."""
    model = tokenizer.model if isinstance(tokenizer, SentencePieceTokenizer) else None
    return {"unk_token": model.pieces[model.unknown].text} if model else {}


def _assembled(
    tokenizer: Tokenizer,
    model: Node,
    decoder: Sequence[Node],
    normalisers: Sequence[Node] = (),
    first: Node | None = None,
    users: Sequence[int] = (),
) -> Node:
    texts = {index: text for text, index in tokenizer.special.items()}
    added = [_added(index, texts[index], special=True) for index in sorted(texts)]
    added += [_added(index, tokenizer.piece(index).decode(), special=False) for index in users]
    normaliser = {"type": "Sequence", "normalizers": list(normalisers)} if normalisers else None
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": sorted(added, key=lambda token: token["id"]),
        "normalizer": normaliser,
        "pre_tokenizer": first,
        "post_processor": _prefix(tokenizer),
        "decoder": {"type": "Sequence", "decoders": list(decoder)},
        "model": model,
    }


def _added(index: int, text: str, *, special: bool) -> Node:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": index, "content": text, **flags, "special": special}


def _prefix(tokenizer: Tokenizer) -> Node | None:
    """The step that puts the first ids before a text."""
    texts = {index: text for text, index in tokenizer.special.items()}
    if not tokenizer.prefix_ids:
        return None
    before = [{"SpecialToken": {"id": texts[index], "type_id": 0}} for index in tokenizer.prefix_ids]
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "type": "TemplateProcessing",
        "single": [*before, first],
        "pair": [*before, first, second],
        "special_tokens": {
            texts[index]: {"id": texts[index], "ids": [index], "tokens": [texts[index]]}
            for index in tokenizer.prefix_ids
        },
    }


def _pairs(
    vocabulary: dict[str, int], merges: Sequence[tuple[str, str]], unknown: str | None, **more: bool
) -> Node:
    empty = dict.fromkeys(("dropout", "continuing_subword_prefix", "end_of_word_suffix"))
    return {
        "type": "BPE",
        **empty,
        "unk_token": unknown,
        "fuse_unk": True,
        "ignore_merges": False,
        **more,
        "vocab": vocabulary,
        "merges": merges,
    }


_BYTES_JOINED: list[Node] = [{"type": "ByteFallback"}, {"type": "Fuse"}]


def _characters(tokenizer: CharacterTokenizer) -> Node:
    vocabulary = dict(tokenizer.special)
    vocabulary |= {f"<0x{byte:02X}>": FIRST_BYTE + byte for byte in range(256)}
    vocabulary |= {character: index for index, character in enumerate(tokenizer.characters, FIRST_PIECE)}
    return _assembled(tokenizer, _pairs(vocabulary, [], None, byte_fallback=True), _BYTES_JOINED)


def _unigram(tokenizer: UnigramTokenizer) -> Node:
    model = tokenizer.parsed
    entries = [(text.replace(_SPACE, " "), score) for text, score in _entries(model)]
    found = {"type": "Unigram", "unk_id": model.unknown, "vocab": entries, "byte_fallback": True}
    return _assembled(tokenizer, found, _BYTES_JOINED, first=_with_marks_apart(None, model))


def _with_marks_apart(first: Node | None, model: SentencePieceModel) -> Node:
    """A pre-tokenizer that cuts ``<0x0A>``, ``<unk>`` and control pieces in a text, lest they be found."""
    apart = {piece.text for piece in model.pieces if piece.type in (PieceType.CONTROL, PieceType.UNKNOWN)}
    cuts = [f"{re.escape(text[0])}(?={re.escape(text[1:])})" for text in sorted(apart) if len(text) > 1]
    pattern = {"Regex": "|".join(["<(?=(0x[0-9A-F]{2}|unk)>)", *cuts])}
    apart = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    return apart if first is None else {"type": "Sequence", "pretokenizers": [first, apart]}


def _entries(model: SentencePieceModel) -> list[tuple[str, float]]:
    """Pieces and scores of a unigram; those that text must not reach score low."""
    reached = (PieceType.NORMAL, PieceType.USER_DEFINED, PieceType.UNUSED)
    return [(piece.text, model.score(piece) if piece.type in reached else _LOW) for piece in model.pieces]


def _sentencepiece(tokenizer: SentencePieceTokenizer) -> Node:
    model = tokenizer.model
    users = [i for i, piece in enumerate(model.pieces) if piece.type == PieceType.USER_DEFINED]
    users = [] if model.users_are_plain else users
    in_parts = model.space_first and bool(users)
    normalisers = _normalisers(model)
    first = None
    if in_parts:  # texts are cut at user-defined pieces; only the first part gets the space
        first = {"type": "Metaspace", "replacement": _SPACE, "prepend_scheme": "first", "split": False}
    else:
        normalisers += [{"type": "Prepend", "prepend": _SPACE}] if model.space_first else []
        normalisers += [_replace({"String": " "}, _SPACE)]
    decoder: list[Node] = [_replace({"String": _SPACE}, " "), *_BYTES_JOINED]
    decoder += [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if model.space_first else []
    if model.algorithm == Algorithm.UNIGRAM:
        found = {
            "type": "Unigram",
            "unk_id": model.unknown,
            "vocab": _entries(model),
            "byte_fallback": model.byte_fallback,
        }
        first = _with_marks_apart(first, model) if model.byte_fallback else first
        return _assembled(tokenizer, found, decoder, normalisers, first, users)
    vocabulary = {piece.text: index for index, piece in enumerate(model.pieces)}
    unknown = model.pieces[model.unknown].text
    found = _pairs(vocabulary, _merges(model), unknown, byte_fallback=model.byte_fallback)
    return _assembled(tokenizer, found, decoder, normalisers, first, users)


def _normalisers(model: SentencePieceModel) -> list[Node]:
    found: list[Node] = []
    if model.characters:
        table = base64.b64encode(model.characters).decode()
        found.append({"type": "Precompiled", "precompiled_charsmap": table})
    if model.remove_spaces:
        found += [_replace({"Regex": "^ +| +$"}, ""), _replace({"Regex": " {2,}"}, " ")]
    return found


def _replace(pattern: Node, by: str) -> Node:
    return {"type": "Replace", "pattern": pattern, "content": by}


def _merges(model: SentencePieceModel) -> list[tuple[str, str]]:
    """All pairs of pieces that make a piece, the best scored first."""
    whole = {piece.text for piece in model.pieces if piece.type in (PieceType.NORMAL, PieceType.UNUSED)}
    ranked = sorted((piece for piece in model.pieces if piece.text in whole), key=lambda piece: -piece.score)
    return [
        (piece.text[:place], piece.text[place:])
        for piece in ranked
        for place in range(1, len(piece.text))
        if piece.text[:place] in whole and piece.text[place:] in whole
    ]
