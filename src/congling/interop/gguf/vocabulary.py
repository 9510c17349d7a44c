"""Tokenizers as the keys of a GGUF file, so that unmodified llama.cpp gives the same ids.

======================  ==========  =====================================================================
ours                    there       where the two part
======================  ==========  =====================================================================
bpe                     gpt2        nowhere (split ``deepseek-v3``)
character               llama       the character ``▁``, which is a space there, and U+0000
sentencepiece, BPE      llama       nowhere; what llama.cpp cannot do is refused (see ``_obstacle``)
sentencepiece, unigram  t5          as above; a text of spaces alone, where spaces are kept
hf, merges and ▁        llama       as sentencepiece, BPE; see ``differences``
hf, byte-level          gpt2        decomposed characters where the file composes them (NFC)
unigram                 (t5)        characters outside the vocabulary: refused, unless ``inexact``
======================  ==========  =====================================================================

``vocabulary_reading`` is the way back.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from congling.core.errors import UserError
from congling.interop.gguf.differences import normalised, turn_ends
from congling.interop.gguf.fields import Field
from congling.interop.gguf.pretokenizers import name_of
from congling.interop.gguf.vocabulary_reading import tokenizer_from
from congling.tokenizer.base import FIRST_BYTE, FIRST_PIECE, Tokenizer
from congling.tokenizer.bpe import BytePairTokenizer, byte_symbols
from congling.tokenizer.character import CharacterTokenizer
from congling.tokenizer.imported import from_merges
from congling.tokenizer.imported.hf_json import HuggingFaceTokenizer, nodes
from congling.tokenizer.imported.sentencepiece import SentencePieceTokenizer
from congling.tokenizer.imported.sentencepiece_file import Algorithm, PieceType, SentencePieceModel
from congling.tokenizer.split import PRE_TOKENIZER
from congling.tokenizer.unigram import UnigramTokenizer

__all__ = ["fields", "tokenizer_from"]

Fields = dict[str, Field]
_FILLER_SCORE, _ADDED_SCORE = -10_000.0, -1_000.0


def fields(tokenizer: Tokenizer, *, vocab_size: int | None = None, inexact: bool = False) -> Fields:
    """The ``tokenizer.*`` keys of a tokenizer.

    Args:
        tokenizer: of any kind.
        vocab_size: rows of the model's embedding, when there are more than ids; fillers take the rest.
        inexact: accept that llama.cpp gives other ids for some texts.

    Raises:
        UserError: llama.cpp cannot tokenise so; the hint names the nearest kind it can.
    """
    makers: dict[type[Tokenizer], Callable[[Any, bool], Fields]] = {
        BytePairTokenizer: _byte_pairs,
        CharacterTokenizer: _characters,
        UnigramTokenizer: _unigram,
        SentencePieceTokenizer: _sentencepiece,
        HuggingFaceTokenizer: _hugging_face,
    }
    size = tokenizer.vocab_size if vocab_size is None else vocab_size
    if size < tokenizer.vocab_size:
        more = f"{tokenizer.vocab_size - size} more than {size}"
        raise UserError("the tokenizer has more ids than the model", value=more)
    found = makers[type(tokenizer)](tokenizer, inexact)
    return _padded(found, size) | _roles(tokenizer)


def _keys(
    model: str,
    tokens: Sequence[str],
    types: Sequence[int],
    scores: Sequence[float] | None = None,
    **flags: bool,
) -> Fields:
    found = {
        "tokenizer.ggml.model": Field("string", model),
        "tokenizer.ggml.tokens": Field("array:string", tokens),
    }
    if scores is not None:
        found["tokenizer.ggml.scores"] = Field("array:f32", np.asarray(scores, np.float32))
    found["tokenizer.ggml.token_type"] = Field("array:i32", np.asarray(types, np.int32))
    return found | {f"tokenizer.ggml.{name}": Field("bool", value) for name, value in flags.items()}


def _byte_level(tokens: Sequence[str], types: Sequence[int], merges: Sequence[str], pre: str) -> Fields:
    return _keys("gpt2", tokens, types) | {
        "tokenizer.ggml.pre": Field("string", pre),
        "tokenizer.ggml.merges": Field("array:string", merges),
    }


def _byte_pairs(tokenizer: BytePairTokenizer, inexact: bool) -> Fields:
    symbols = byte_symbols()
    texts = {index: text for text, index in tokenizer.special.items()}
    tokens = [
        texts.get(index) or "".join(symbols[byte] for byte in tokenizer.piece(index))
        for index in range(tokenizer.vocab_size)
    ]
    types = [PieceType.CONTROL if index in texts else PieceType.NORMAL for index in range(len(tokens))]
    return _byte_level(tokens, types, [" ".join(pair) for pair in tokenizer.merges], PRE_TOKENIZER)


def _hugging_face(tokenizer: HuggingFaceTokenizer, inexact: bool) -> Fields:
    if not inexact and (odd := _with_attributes(tokenizer)):
        raise UserError(
            "llama.cpp has no tokens that take in the spaces beside them, stand as words alone or are found "
            "in the normalised text (lstrip, rstrip, single_word, normalized)",
            value=odd[:3],
            hint="write a Hugging Face folder (--to hf), which holds them, or leave these tokens out",
        )
    if not tokenizer.byte_level:
        return _sentencepiece(_with_scores(tokenizer), inexact)
    if tokenizer.space_prefix:
        raise UserError("llama.cpp puts no space before a text with a byte-level vocabulary")
    kinds = {node["type"] for node in nodes(tokenizer.content.get("normalizer"))}
    if kinds - {"NFC"} and not inexact:
        raise UserError("llama.cpp does not normalise texts as this tokenizer does", value=sorted(kinds))
    model = tokenizer.content["model"]
    if (
        model.get("type") == "Unigram"
        or model.get("continuing_subword_prefix")
        or model.get("end_of_word_suffix")
    ):
        raise UserError(
            "llama.cpp runs byte-level vocabularies with merges alone, without marks on parts of words"
        )
    size = tokenizer.vocab_size
    tokens, types = [_filler(index) for index in range(size)], [int(PieceType.UNUSED)] * size
    for token, index in model["vocab"].items():
        tokens[index], types[index] = token, PieceType.NORMAL
    special = set(tokenizer.special.values())
    for index, token in tokenizer.added.items():
        tokens[index] = token.content
        types[index] = PieceType.CONTROL if index in special else PieceType.USER_DEFINED
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    return _byte_level(tokens, types, merges, name_of(tokenizer.content))


def _with_attributes(tokenizer: HuggingFaceTokenizer) -> list[str]:
    """Added tokens whose attributes change what stands beside them, where a text or the template has them."""
    special, made = set(tokenizer.special.values()), normalised(tokenizer)
    return [
        token.content
        for index, token in tokenizer.added.items()
        if (
            token.lstrip
            or token.rstrip
            or token.single_word
            or (token.normalized and made(token.content) != token.content)
        )
        and (index not in special or token.content in tokenizer.chat_template)
    ]


def _with_scores(tokenizer: HuggingFaceTokenizer) -> SentencePieceTokenizer:
    """The same vocabulary as llama.cpp has it, where every piece has a score."""
    try:
        model = from_merges.model_of(tokenizer.content, tokenizer.special, tokenizer.vocab_size)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            "llama.cpp cannot tokenise like this tokenizer.json",
            value=str(error),
            hint="put the tokenizer.model of this vocabulary beside it",
        ) from None
    return SentencePieceTokenizer(model, tokenizer.special, tokenizer.chat_template, "", tokenizer.roles)


def _characters(tokenizer: CharacterTokenizer, inexact: bool) -> Fields:
    """A vocabulary in which nothing merges: the pieces are characters, the others are spelt in bytes."""
    texts = sorted(tokenizer.special, key=tokenizer.special.__getitem__)
    tokens = [*texts, *(f"<0x{byte:02X}>" for byte in range(256))]
    types = [PieceType.CONTROL] * FIRST_BYTE + [PieceType.BYTE] * 256
    tokens += ["▁" if character == " " else character for character in tokenizer.characters]
    types += [PieceType.NORMAL] * len(tokenizer.characters)
    if " " not in tokenizer.characters:
        # There every space becomes ▁ before the byte of a space could be looked up.
        tokens[FIRST_BYTE + 0x20], types[FIRST_BYTE + 0x20] = "▁", PieceType.NORMAL
    for index, character in enumerate(tokenizer.characters, FIRST_PIECE):
        if character in "▁\0":  # one is a space there, the other ends a string
            tokens[index], types[index] = f"[U+{ord(character):04X}]", PieceType.UNUSED
    return _keys("llama", tokens, types, [0.0] * len(tokens), add_space_prefix=False)


def _unigram(tokenizer: UnigramTokenizer, inexact: bool) -> Fields:
    if not inexact:
        raise UserError(
            "llama.cpp runs unigram vocabularies without byte fallback, so other characters would be lost",
            hint="take tokenizer.kind=bpe, or accept inexact ids",
        )
    return _pieces(tokenizer.parsed, "t5", [])


def _sentencepiece(tokenizer: SentencePieceTokenizer, inexact: bool) -> Fields:
    model = tokenizer.model
    kinds = {Algorithm.BPE: "llama", Algorithm.UNIGRAM: "t5"}
    if model.algorithm not in kinds:
        raise UserError("llama.cpp runs no sentencepiece vocabulary of words or characters")
    if not inexact and (reason := _obstacle(model)):
        hint = "train it with --model_type=unigram, or as BPE with --normalization_rule_name=identity "
        hint += "--remove_extra_whitespaces=false --byte_fallback=true"
        raise UserError(f"llama.cpp cannot tokenise like this sentencepiece model: {reason}", hint=hint)
    added = {index: text for text, index in tokenizer.special.items() if index >= len(model.pieces)}
    rest = [added.get(index, _filler(index)) for index in range(len(model.pieces), tokenizer.vocab_size)]
    return _pieces(model, kinds[model.algorithm], rest)


def _obstacle(model: SentencePieceModel) -> str | None:
    """What llama.cpp does otherwise than this model; None where nothing."""
    # llama.cpp cuts a text at user-defined pieces before anything else, and puts a space before each part.
    users = model.space_first and not model.users_are_plain
    name = model.normaliser or "a map of its own"
    checks = [(model.space_last or not model.escape_spaces, "spaces end words, or are kept as they are")]
    checks += [(users, "a space would be put after each user-defined piece as well")]
    if model.algorithm == Algorithm.UNIGRAM:
        checks += [
            (model.byte_fallback, "it falls back to bytes, which llama.cpp's unigram does not"),
            (model.remove_spaces > model.space_first, "spaces are removed but none is put first"),
        ]
    else:
        checks += [
            (bool(model.characters), f"it normalises texts ({name}), which llama.cpp's BPE does not"),
            (model.remove_spaces, "runs of spaces become one"),
            (not model.byte_fallback, "llama.cpp stops at a character outside it without byte fallback"),
        ]
    return next((reason for bad, reason in checks if bad), None)


def _pieces(model: SentencePieceModel, kind: str, rest: list[str]) -> Fields:
    """Pieces with their scores and types; ``rest`` are the texts of the ids behind them."""
    fillers = [_filler(index) == text for index, text in enumerate(rest, len(model.pieces))]
    plain = model.space_first and model.users_are_plain
    types = [
        int(PieceType.NORMAL if plain and piece.type == PieceType.USER_DEFINED else piece.type)
        for piece in model.pieces
    ]
    types += [int(PieceType.UNUSED if filler else PieceType.CONTROL) for filler in fillers]
    scores = [model.score(piece) for piece in model.pieces]
    scores += [_FILLER_SCORE if filler else _ADDED_SCORE for filler in fillers]
    flags = {"add_space_prefix": model.space_first}
    if kind == "t5":
        flags["remove_extra_whitespaces"] = model.remove_spaces
    found = _keys(kind, [piece.text for piece in model.pieces] + rest, types, scores, **flags)
    if kind == "t5" and model.characters:
        found["tokenizer.ggml.precompiled_charsmap"] = Field(
            "array:u8", np.frombuffer(model.characters, np.uint8)
        )
    found["tokenizer.ggml.unknown_token_id"] = Field("u32", model.unknown)
    return found


def _filler(index: int) -> str:
    return f"[PAD{index}]"


def _padded(found: Fields, size: int) -> Fields:
    """Fillers for the rows of a model's embedding that have no token."""
    tokens = list(found["tokenizer.ggml.tokens"].value)
    more = size - len(tokens)
    if len(set(tokens)) < len(tokens):
        raise UserError("two ids have the same text, which llama.cpp does not allow")
    if not more:
        return found
    tokens += [_filler(index) for index in range(len(tokens), size)]
    padded = found | {"tokenizer.ggml.tokens": Field("array:string", tokens)}
    for key, value in (("token_type", int(PieceType.UNUSED)), ("scores", _FILLER_SCORE)):
        if field := found.get(f"tokenizer.ggml.{key}"):
            filled = np.concatenate([field.value, np.full(more, value, field.value.dtype)])
            padded[f"tokenizer.ggml.{key}"] = Field(field.type, filled)
    return padded


def _roles(tokenizer: Tokenizer) -> Fields:
    roles = tokenizer.roles
    ids = {"bos": roles.bos, "eos": roles.eos, "padding": roles.pad}
    ids["eot"], ids["eom"], _ = turn_ends(tokenizer)
    found = {
        f"tokenizer.ggml.{name}_token_id": Field("u32", index)
        for name, index in ids.items()
        if index is not None
    }
    found["tokenizer.ggml.add_bos_token"] = Field("bool", tokenizer.adds_bos)
    found["tokenizer.ggml.add_eos_token"] = Field("bool", False)
    found["tokenizer.chat_template"] = Field("string", tokenizer.chat_template)
    return found
