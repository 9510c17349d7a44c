"""Our tokenizers as ``tokenizer.bin`` and back, as far as run.c cuts texts as they do.

run.c begins every text with id 1 and a space, spells unknown characters as ``3 + byte``, and joins pairs by
score with nothing that splits the text before. ``character`` and sentencepiece BPE vocabularies in Llama's
order of ids are exact. ``bpe`` is exact but where its split would have kept two pieces apart: about one
English line in a thousand, none of 400 lines of Chinese prose.
"""

import re
from pathlib import Path

from congling.core.errors import UserError
from congling.interop.llama2c.vocabulary import BOS, BYTE_PIECE, EOS, Vocabulary
from congling.tokenizer.base import FIRST_BYTE, FIRST_PIECE, Tokenizer
from congling.tokenizer.bpe import BytePairTokenizer
from congling.tokenizer.character import CharacterTokenizer
from congling.tokenizer.imported.sentencepiece import SentencePieceTokenizer
from congling.tokenizer.imported.sentencepiece_file import (
    Algorithm,
    Piece,
    PieceType,
    SentencePieceModel,
    check,
)

_BEGIN, _END = b"\n<s>\n", b"\n</s>\n"
_SPACE_NOTE = "run.c puts a space before every prompt; this model was trained without one"
_SPLIT_NOTE = "run.c does not split text before it joins pieces: a few ids may differ in English and code"
_NORMALISER_NOTE = "run.c does not normalise text (widths, runs of spaces), this tokenizer does"
_NEVER = -1e11  # below every score at which run.c joins a pair
_BYTES_NOTE = "run.c prints no character that the model spells in bytes"


def write(tokenizer: Tokenizer, path: Path, vocab_size: int) -> list[str]:
    """Write the vocabulary of a model with ``vocab_size`` ids; returns notes for the person.

    Raises:
        UserError: run.c cannot use this tokenizer, with the nearest one that it can.
    """
    vocabulary, notes = vocabulary_of(tokenizer)
    if tokenizer.vocab_size > vocab_size:
        raise UserError("the tokenizer has more ids than the model", value=tokenizer.vocab_size)
    unused = [f"\n<unused {i}>\n".encode() for i in range(tokenizer.vocab_size, vocab_size)]
    full = Vocabulary([*vocabulary.pieces, *unused], [*vocabulary.scores.tolist(), *[_NEVER] * len(unused)])
    path.write_bytes(full.packed())
    return notes


def vocabulary_of(tokenizer: Tokenizer) -> tuple[Vocabulary, list[str]]:
    """Pieces and scores that run.c needs, and notes on what differs.

    Raises:
        UserError: run.c cannot use this tokenizer.
    """
    match tokenizer:
        case CharacterTokenizer():
            return _of_characters(tokenizer), [_SPACE_NOTE, _BYTES_NOTE]
        case BytePairTokenizer():
            return _of_byte_pairs(tokenizer), [_SPACE_NOTE, _SPLIT_NOTE, _BYTES_NOTE]
        case SentencePieceTokenizer():
            return _of_sentencepiece(tokenizer), _sentencepiece_notes(tokenizer.model)
        case _:
            raise UserError(
                "run.c joins pieces as byte pairs are, so it cannot cut text as this tokenizer does",
                value=tokenizer.kind,
                hint="use tokenizer.kind=character or bpe",
            )


def _of_characters(tokenizer: CharacterTokenizer) -> Vocabulary:
    """Bytes as ``<0xHH>``, then the characters; no two pieces together are a third, so scores are free."""
    pieces = [b"\n<|im_start|>\n", _BEGIN, _END, *(f"<0x{byte:02X}>".encode() for byte in range(256))]
    if " " not in tokenizer.characters:
        pieces[FIRST_BYTE + 0x20] = b" "  # looked up for every prompt; run.c crashes where there is none
    pieces += [character.encode() for character in tokenizer.characters]
    return Vocabulary(pieces, [0.0] * len(pieces))


def _of_byte_pairs(tokenizer: BytePairTokenizer) -> Vocabulary:
    """Bytes as they are, so that they can be joined; an earlier merge has the higher score."""
    size = tokenizer.vocab_size
    pieces = [b"\n<|im_start|>\n", _BEGIN, _END, *(tokenizer.piece(index) for index in range(3, size))]
    pieces[FIRST_BYTE] = b"<0x00>"  # no C string holds the byte itself
    if odd := next((piece for piece in pieces if b"\0" in piece), None):
        raise UserError("run.c cannot hold a piece with a zero byte in it", value=odd)
    return Vocabulary(pieces, [0.0] * FIRST_PIECE + [-float(rank) for rank in range(size - FIRST_PIECE)])


def _of_sentencepiece(tokenizer: SentencePieceTokenizer) -> Vocabulary:
    """As the file of Llama: spaces for ``▁``, begin and end with newlines around them."""
    model = tokenizer.model
    unfit = None
    if model.algorithm != Algorithm.BPE:
        unfit = "it is a unigram model, which weighs whole texts"
    elif (model.bos, model.eos) != (BOS, EOS):
        unfit = f"its ids of begin and end are {model.bos} and {model.eos}, run.c has 1 and 2 built in"
    elif [piece.byte for piece in model.pieces[FIRST_BYTE:FIRST_PIECE]] != list(range(256)):
        unfit = "its ids 3 to 258 are not the 256 bytes"
    if unfit:
        hint = "use tokenizer.kind=character or bpe, or a BPE model with byte fallback"
        raise UserError("run.c cannot use this sentencepiece model", value=unfit, hint=hint)
    added = {index: text for text, index in tokenizer.special.items() if index >= len(model.pieces)}
    pieces = [piece.text.replace("▁", " ").encode() for piece in model.pieces]
    pieces += [
        f"\n{added.get(index, f'<unused {index}>')}\n".encode()
        for index in range(len(pieces), tokenizer.vocab_size)
    ]
    pieces[BOS], pieces[EOS] = _BEGIN, _END
    scores = [_NEVER if piece.type == PieceType.UNUSED else piece.score for piece in model.pieces]
    return Vocabulary(pieces, scores + [_NEVER] * (len(pieces) - len(scores)))


def _sentencepiece_notes(model: SentencePieceModel) -> list[str]:
    notes = [] if model.space_first else [_SPACE_NOTE]
    if model.characters or model.remove_spaces:
        notes.append(_NORMALISER_NOTE)
    return [*notes, _BYTES_NOTE]


def beside(path: Path, vocab_size: int) -> tuple[Tokenizer | None, list[str]]:
    """The tokenizer in a file, if it is there and a kind of ours cuts text alike; notes say why not.

    Raises:
        UserError: the file is damaged.
    """
    if not path.exists():
        return None, [f"there is no {path.name} beside the model: name a tokenizer"]
    vocabulary = Vocabulary.read(path, vocab_size)
    characters = _characters(vocabulary)
    if characters is not None:
        return CharacterTokenizer(characters), []
    try:
        return SentencePieceTokenizer(_sentencepiece(vocabulary)), []
    except ValueError as error:
        why = f"{path.name} is no sentencepiece vocabulary ({error})"
        return None, [f"{why}: name the tokenizer's own directory or file"]


def _characters(vocabulary: Vocabulary) -> str | None:
    """Characters of a vocabulary that ``_of_characters`` wrote; None of any other."""
    used = [piece for piece in vocabulary.pieces if not re.fullmatch(rb"\n<unused \d+>\n", piece)]
    head, rest = used[:FIRST_PIECE], used[FIRST_PIECE:]
    if len(head) < FIRST_PIECE or head[BOS] != _BEGIN or head[EOS] != _END:
        return None
    bytes_ = [piece for piece in head[FIRST_BYTE:] if BYTE_PIECE.fullmatch(piece) or piece == b" "]
    try:
        characters = [piece.decode() for piece in rest]
    except UnicodeDecodeError:
        return None
    single = all(len(character) == 1 for character in characters) and len(set(characters)) == len(characters)
    return "".join(characters) if single and len(bytes_) == 256 else None


def _sentencepiece(vocabulary: Vocabulary) -> SentencePieceModel:
    """The model behind a vocabulary of Llama's order; ValueError where it is none."""
    texts = [piece.decode().replace(" ", "▁") for piece in vocabulary.pieces]
    if vocabulary.pieces[BOS : EOS + 1] != [_BEGIN, _END]:
        raise ValueError("ids 1 and 2 are not <s> and </s>")
    texts[BOS : EOS + 1] = ["<s>", "</s>"]
    kinds = [PieceType.UNKNOWN, PieceType.CONTROL, PieceType.CONTROL, *[PieceType.BYTE] * 256]
    kinds += [
        PieceType.NORMAL if score > _NEVER else PieceType.UNUSED for score in vocabulary.scores[len(kinds) :]
    ]
    pieces = [
        Piece(text, score, kind)
        for text, score, kind in zip(texts, vocabulary.scores.tolist(), kinds, strict=True)
    ]
    return check(SentencePieceModel(pieces, Algorithm.BPE, byte_fallback=True, remove_spaces=False))
