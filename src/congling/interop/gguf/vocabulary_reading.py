"""Tokenizers from the keys of a GGUF file: the kind that gives the ids llama.cpp gives.

``llama`` becomes a sentencepiece BPE, ``t5`` a sentencepiece unigram, ``gpt2`` a byte-level BPE with the
split the file names. What was written from a ``bpe`` or ``character`` tokenizer becomes that again.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from congling.core.errors import UserError
from congling.interop.gguf.fields import Field
from congling.interop.gguf.file import GGUFFile
from congling.interop.gguf.pretokenizers import Split, split_of
from congling.tokenizer import bpe
from congling.tokenizer.base import (
    CHATML,
    FIRST_PIECE,
    IM_START,
    SPECIAL,
    Roles,
    Tokenizer,
    is_text,
    own_roles,
)
from congling.tokenizer.character import CharacterTokenizer
from congling.tokenizer.chat.guard import guarded
from congling.tokenizer.chat.turns import ENDS_OF_LLAMA_CPP, PLAIN, stops
from congling.tokenizer.imported import sentencepiece_file
from congling.tokenizer.imported.hf_json import HuggingFaceTokenizer
from congling.tokenizer.imported.sentencepiece import SentencePieceTokenizer
from congling.tokenizer.imported.sentencepiece_file import Algorithm, Piece, PieceType, SentencePieceModel
from congling.tokenizer.library import LONGEST_TOKEN
from congling.tokenizer.split import PRE_TOKENIZER

_KEY = "tokenizer.ggml."
_DEFAULTS = {"llama": (1, 2, True, True), "gpt2": (11, 11, False, False), "t5": (None, 1, False, True)}
"""bos, eos, whether bos is added and a space put first, where a file does not say."""
_NO_ID = 2**32 - 1
"""How llama.cpp's former trainers wrote that there is no such token."""
_MOST_TOKENS, _MOST_MERGES = 2**19, 4  # merges a token: Llama 3 has 2.2, some can be made in several ways


@dataclass(frozen=True)
class _Keys:
    """The keys of one file, typed."""

    fields: Mapping[str, Field]
    where: object

    def value(self, name: str, types: Sequence[str], default: Any = None) -> Any:
        field = self.fields.get(name if name.startswith("tokenizer.") else _KEY + name)
        if field is None:
            return default
        if field.type not in types:
            raise UserError(f"{_KEY}{name} has the wrong type", where=self.where, value=field.type)
        return field.value

    def flag(self, name: str, default: bool) -> bool:
        return bool(self.value(name, ("bool",), default))

    def index(self, name: str, size: int, default: int | None = None) -> int | None:
        """An id; one outside the vocabulary is an error, a default outside is none."""
        found = self.value(f"{name}_token_id", ("u8", "u16", "u32", "u64", "i32", "i64"))
        if found in (None, _NO_ID):
            return default if default is not None and default < size else None
        if not 0 <= int(found) < size:
            raise UserError(f"{_KEY}{name}_token_id is outside the vocabulary", where=self.where, value=found)
        return int(found)


def tokenizer_from(fields: Mapping[str, Field], where: object = "this GGUF file") -> Tokenizer:
    """The tokenizer of a GGUF file.

    Raises:
        UserError: there is none, it is damaged, or of a kind or split not known here.
    """
    keys = _Keys(fields, where)
    model = keys.value("model", ("string",))
    if model not in _DEFAULTS:
        what = "this file holds no tokenizer" if model in (None, "none") else "a tokenizer not known here"
        raise UserError(what, where=where, value=model, hint="llama, gpt2 and t5 can be read")
    pieces = _pieces(keys)
    roles = _roles(keys, model, pieces)
    special = _special(pieces)
    usual = CHATML if IM_START in special else PLAIN
    template = keys.value("tokenizer.chat_template", ("string",)) or usual
    if not is_text(template):
        raise UserError("the chat template is no UTF-8 text", where=where)
    try:
        if model == "gpt2":
            return guarded(_byte_level(keys, pieces, special, template, roles))
        own = special == SPECIAL and roles == own_roles(SPECIAL) and _characters(keys, pieces, template)
        return own or guarded(_sentencepiece(keys, model, pieces, template, roles))
    except ValueError as error:
        raise UserError("the vocabulary is not sound", where=where, value=str(error)) from None


def tokenizer_of(file: GGUFFile, rows: int) -> Tokenizer:
    """The tokenizer of a model whose embedding has so many rows.

    Raises:
        UserError: as ``tokenizer_from``, or it has ids that the model has not.
    """
    tokenizer = tokenizer_from(file.fields, file.path)
    if tokenizer.vocab_size > rows:
        what = "the vocabulary has more tokens than the embedding has rows"
        raise UserError(what, where=file.path, value=f"{tokenizer.vocab_size} > {rows}")
    return tokenizer


def _pieces(keys: _Keys) -> list[Piece]:
    """Texts, scores and types; fillers at the end, which no text can reach, are left out."""
    texts = keys.value("tokens", ("array:string",))
    if texts is None or not 0 < len(texts) <= _MOST_TOKENS:
        raise UserError("the vocabulary has no tokens, or too many", where=keys.where)
    scores = keys.value("scores", ("array:f32", "array:f64"))
    types = keys.value("token_type", ("array:i32", "array:u32", "array:i64"))
    for name, array in (("scores", scores), ("token_type", types)):
        if array is not None and len(array) < len(texts):
            raise UserError(
                f"{_KEY}{name} is shorter than the vocabulary", where=keys.where, value=len(array)
            )
    pieces = []
    for index, text in enumerate(texts):
        score = 0.0 if scores is None else float(scores[index])
        kind = int(types[index]) if types is not None else PieceType.NORMAL
        if len(text) > LONGEST_TOKEN:
            raise UserError(f"a token of more than {LONGEST_TOKEN} characters", where=keys.where, value=index)
        if not is_text(text):
            raise UserError("a token is no UTF-8 text", where=keys.where, value=index)
        sort = PieceType(kind) if 1 <= kind <= 6 else PieceType.UNUSED
        pieces.append(Piece(text or f"[EMPTY_{index}]", score, sort))
    while pieces and pieces[-1].type == PieceType.UNUSED and pieces[-1].text == f"[PAD{len(pieces) - 1}]":
        pieces.pop()
    if len({piece.text for piece in pieces}) < len(pieces):
        raise UserError("two ids have the same text", where=keys.where)
    return pieces


def _special(pieces: Sequence[Piece]) -> dict[str, int]:
    kinds = (PieceType.CONTROL, PieceType.UNKNOWN)
    return {piece.text: index for index, piece in enumerate(pieces) if piece.type in kinds}


def _roles(keys: _Keys, model: str, pieces: Sequence[Piece]) -> Roles:
    size = len(pieces)
    bos, eos, adds_bos, _ = _DEFAULTS[model]
    if model == "gpt2":
        adds_bos = split_of(keys.value("pre", ("string",), "default"), keys.where).adds_bos
    adds_bos = keys.flag("add_bos_token", adds_bos)
    bos, eos = keys.index("bos", size, bos if adds_bos else None), keys.index("eos", size, eos)
    if eos is None:
        raise UserError("no token ends a text", where=keys.where)
    turns = {keys.index("eot", size), keys.index("eom", size)} - {None}
    special = _special(pieces)
    known = {index for text, index in special.items() if text in ENDS_OF_LLAMA_CPP}
    ends = stops(special) | known | {eos} | {index for index in turns if index is not None}
    prefix = (bos,) if bos is not None and adds_bos else ()
    pad = keys.index("padding", size)
    return Roles(bos, eos, eos if pad is None else pad, ends, prefix)


def _sentencepiece(
    keys: _Keys, model: str, pieces: list[Piece], template: str, roles: Roles
) -> SentencePieceTokenizer:
    pieces = _typed(keys, pieces, model == "llama")
    characters = keys.value("precompiled_charsmap", ("array:u8", "array:i8"))
    unknown = next(index for index, piece in enumerate(pieces) if piece.type == PieceType.UNKNOWN)
    found = SentencePieceModel(
        pieces=pieces,
        algorithm=Algorithm.BPE if model == "llama" else Algorithm.UNIGRAM,
        byte_fallback=any(piece.type == PieceType.BYTE for piece in pieces),
        characters=b"" if characters is None or model == "llama" else characters.tobytes(),
        space_first=keys.flag("add_space_prefix", _DEFAULTS[model][3]),
        remove_spaces=model == "t5" and keys.flag("remove_extra_whitespaces", False),
        unknown=unknown,
        bos=-1 if roles.bos is None else roles.bos,
        eos=roles.eos,
    )
    return SentencePieceTokenizer(sentencepiece_file.check(found), None, template, "", roles)


def _typed(keys: _Keys, pieces: list[Piece], bpe_kind: bool) -> list[Piece]:
    """Pieces with exactly one unknown, and bytes only where there are all: what sentencepiece insists on."""
    usual = 0 if bpe_kind else 2
    index = keys.index("unknown", len(pieces), usual)
    unknown = [i for i, piece in enumerate(pieces) if piece.type == PieceType.UNKNOWN]
    chosen = index if index in unknown or not unknown else unknown[0]
    if chosen is None or pieces[chosen].type not in (PieceType.UNKNOWN, PieceType.CONTROL):
        controls = [i for i, piece in enumerate(pieces) if piece.type == PieceType.CONTROL]
        named = [i for i, piece in enumerate(pieces) if piece.text == "<unk>"]
        if not controls and not named:
            raise ValueError("no token stands for the unknown")
        chosen = (named or controls)[0]
    whole = sum(piece.type == PieceType.BYTE for piece in pieces) == 256
    return [_retyped(piece, i == chosen, whole) for i, piece in enumerate(pieces)]


def _retyped(piece: Piece, unknown: bool, bytes_whole: bool) -> Piece:
    if unknown:
        return Piece(piece.text, piece.score, PieceType.UNKNOWN)
    if piece.type == PieceType.UNKNOWN or (piece.type == PieceType.BYTE and not bytes_whole):
        return Piece(piece.text, piece.score, PieceType.CONTROL)
    return piece


def _characters(keys: _Keys, pieces: Sequence[Piece], template: str) -> CharacterTokenizer | None:
    """The ``character`` tokenizer these pieces were written from; None where they were not."""
    own = sorted(SPECIAL, key=SPECIAL.__getitem__)
    first = [*own, *(f"<0x{byte:02X}>" for byte in range(256))]
    found = [piece.text for piece in pieces[:FIRST_PIECE]]
    rest = [_character(piece) for piece in pieces[FIRST_PIECE:]]
    if " " not in rest:
        first[FIRST_PIECE - 256 + 0x20] = "▁"
    if found != first or None in rest or len({*rest}) < len(rest) or keys.flag("add_space_prefix", True):
        return None
    return CharacterTokenizer("".join(filter(None, rest)), SPECIAL, template)


def _character(piece: Piece) -> str | None:
    if piece.type == PieceType.UNUSED and piece.text in ("[U+2581]", "[U+0000]"):
        return chr(int(piece.text[3:7], 16))
    if piece.type != PieceType.NORMAL or len(piece.text) != 1:
        return None
    return " " if piece.text == "▁" else piece.text


def _byte_level(
    keys: _Keys, pieces: Sequence[Piece], special: Mapping[str, int], template: str, roles: Roles
) -> Tokenizer:
    name = keys.value("pre", ("string",), "default")
    merges = keys.value("merges", ("array:string",))
    if merges is None:
        raise UserError("a gpt2 vocabulary without merges", where=keys.where)
    if len(merges) > _MOST_MERGES * len(pieces):
        raise UserError("far more merges than tokens", where=keys.where, value=len(merges))
    pairs = [_pair(text) for text in merges]
    vocabulary = {piece.text: index for index, piece in enumerate(pieces)}
    if name == PRE_TOKENIZER and special == SPECIAL and roles == own_roles(SPECIAL):
        try:
            return bpe.from_merges(pairs, vocabulary, template)
        except ValueError:
            pass  # it only begins like one of ours
    text = json.dumps(_tokenizer_json(split_of(name, keys.where), pieces, pairs), ensure_ascii=False)
    return HuggingFaceTokenizer(text, special, template, "", roles)


def _pair(text: str) -> tuple[str, str]:
    place = text.find(" ", 1)
    if place < 0:
        raise ValueError(f"a merge of one part: {text!r}")
    return text[:place], text[place + 1 :]


def _tokenizer_json(
    split: Split, pieces: Sequence[Piece], merges: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    kept = (PieceType.NORMAL, PieceType.BYTE)
    added = [
        {
            "id": index,
            "content": piece.text,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": piece.type != PieceType.USER_DEFINED,
        }
        for index, piece in enumerate(pieces)
        if piece.type not in kept
    ]
    steps = [
        {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
        for expression in split.expressions
    ]
    symbols = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*steps, symbols]},
        "post_processor": None,
        "decoder": symbols,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": split.whole_words,
            "vocab": {piece.text: index for index, piece in enumerate(pieces)},
            "merges": merges,
        },
    }
