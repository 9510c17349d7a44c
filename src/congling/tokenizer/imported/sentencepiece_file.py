"""Sentencepiece model files, read strictly and written anew.

A ``.model`` is a protocol buffer. The C++ library trusts what it reads, so nothing from a file reaches it
directly: the file is read here, each part is checked, and what the library gets is written from the parts.

Of the messages these fields matter (number, meaning)::

    model       1 piece, repeated    2 trainer    3 normaliser    5 denormaliser (left out: it changes no id)
    piece       1 text    2 score    3 type
    trainer     3 algorithm    4 size    24 space last    35 byte fallback    40-43 ids    44-48 texts
    normaliser  1 name    2 character map    3 space first    4 remove spaces    5 escape spaces
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from pathlib import Path

from congling.core.errors import UserError
from congling.tokenizer.imported import charsmap
from congling.tokenizer.imported.protobuf import bytes_field, fields, number_field, part, text_field, varint

LONGEST_PIECE = 4096  # bytes; real ones have a few dozen
MOST_PIECES = 2**19  # twice the largest vocabularies there are


class PieceType(IntEnum):
    """What a piece is for; the same numbers as in GGUF files."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Algorithm(IntEnum):
    """How a text is cut into pieces."""

    UNIGRAM = 1
    BPE = 2
    WORD = 3
    CHARACTER = 4


@dataclass(frozen=True)
class Piece:
    """One entry of the vocabulary."""

    text: str
    score: float
    type: PieceType = PieceType.NORMAL

    @property
    def byte(self) -> int | None:
        """The byte a fallback piece stands for; None for any other piece."""
        return int(self.text[3:5], 16) if self.type == PieceType.BYTE else None


@dataclass(frozen=True)
class SentencePieceModel:
    """The parts of a model file that decide about ids."""

    pieces: Sequence[Piece]
    algorithm: Algorithm
    byte_fallback: bool
    normaliser: str = "identity"
    characters: bytes = b""
    """Precompiled map of characters, empty for none; see ``charsmap``."""
    space_first: bool = True
    """A space is put before the text."""
    remove_spaces: bool = True
    """Spaces at both ends go, and runs of them become one."""
    escape_spaces: bool = True
    """Spaces are written ``▁``."""
    space_last: bool = False
    """Spaces end words instead of beginning them."""
    unknown: int = 0
    bos: int = 1
    eos: int = 2
    pad: int = -1
    """Ids; -1 where there is none."""

    @property
    def users_are_plain(self) -> bool:
        """Whether user-defined pieces behave like ordinary ones of the score ``score`` gives them.

        Not where the normaliser would change them, nor in a BPE that would not build them from characters.
        """
        users = {piece.text for piece in self.pieces if piece.type == PieceType.USER_DEFINED}
        if not users or self.characters or self.remove_spaces:
            return not users
        others = (piece.text for piece in self.pieces if piece.type == PieceType.NORMAL)
        alone = all(len(text) == 1 for text in users) and not any(users & set(text) for text in others)
        return alone or self.algorithm == Algorithm.UNIGRAM

    @cached_property
    def _best(self) -> float:
        return max((piece.score for piece in self.pieces if piece.type == PieceType.NORMAL), default=0.0)

    def score(self, piece: Piece) -> float:
        """Score of a piece in a unigram's search: user-defined ones beat what they could be made of."""
        if piece.type != PieceType.USER_DEFINED:
            return piece.score
        return len(piece.text.encode()) * self._best - 0.1

    def serialised(self) -> bytes:
        """The model file."""
        out = bytearray()
        for piece in self.pieces:
            text = piece.text.encode()
            kind = b"" if piece.type == PieceType.NORMAL else b"\x18" + varint(piece.type)
            body = b"\x0a" + varint(len(text)) + text + b"\x15" + struct.pack("<f", piece.score) + kind
            out += b"\x0a" + varint(len(body)) + body
        roles = [(40, self.unknown, 45), (41, self.bos, 46), (42, self.eos, 47), (43, self.pad, 48)]
        trainer = number_field(3, self.algorithm) + number_field(4, len(self.pieces))
        trainer += number_field(24, self.space_last) + number_field(35, self.byte_fallback)
        trainer += b"".join(number_field(field, index) for field, index, _ in roles)
        trainer += b"".join(
            text_field(name, self.pieces[index].text)
            for _, index, name in roles
            if 0 <= index < len(self.pieces)
        )
        normaliser = text_field(1, self.normaliser) + bytes_field(2, self.characters)
        normaliser += number_field(3, self.space_first) + number_field(4, self.remove_spaces)
        normaliser += number_field(5, self.escape_spaces)
        return bytes(out + bytes_field(2, trainer) + bytes_field(3, normaliser))


def read(data: bytes, where: Path | str) -> SentencePieceModel:
    """Parse and check a model file.

    Raises:
        UserError: it is none, it is damaged, or its parts contradict each other.
    """
    try:
        return _model(memoryview(data))
    except (ValueError, struct.error) as error:
        raise UserError("this is no sound sentencepiece model", where=where, value=str(error)) from None


def characters_of(data: bytes) -> bytes:
    """The character map of a model file that may hold no pieces; ValueError where it is damaged."""
    normaliser = [part(value) for number, value in fields(memoryview(data)) if number == 3]
    maps = [bytes(part(value)) for each in normaliser for number, value in fields(each) if number == 2]
    charsmap.check(maps[0])
    return maps[0]


def check(model: SentencePieceModel) -> SentencePieceModel:
    """Return a model whose parts fit together; ValueError says what does not."""
    if not 0 < len(model.pieces) <= MOST_PIECES:
        raise ValueError(f"{len(model.pieces)} pieces")
    texts: set[str] = set()
    for index, piece in enumerate(model.pieces):
        _check_piece(index, piece)
        if piece.text in texts:
            raise ValueError(f"piece {index} is there twice: {piece.text!r}")
        texts.add(piece.text)
    _check_types(model)
    if model.characters:
        charsmap.check(model.characters)
    return model


def _check_piece(index: int, piece: Piece) -> None:
    size = len(piece.text.encode())
    if not 0 < size <= LONGEST_PIECE or "\0" in piece.text:
        raise ValueError(f"piece {index} has {size} bytes, or a zero byte")
    if not math.isfinite(piece.score):
        raise ValueError(f"piece {index} has the score {piece.score}")
    if piece.type == PieceType.BYTE:
        hexadecimal = piece.text[3:5]
        if piece.text != f"<0x{hexadecimal}>" or not set(hexadecimal) <= set("0123456789ABCDEF"):
            raise ValueError(f"piece {index} is said to be a byte: {piece.text!r}")


def _check_types(model: SentencePieceModel) -> None:
    types = [piece.type for piece in model.pieces]
    if types.count(PieceType.UNKNOWN) != 1:
        raise ValueError(f"{types.count(PieceType.UNKNOWN)} pieces for the unknown, not 1")
    if types.count(PieceType.BYTE) != (256 if model.byte_fallback else 0):
        fallback = "with" if model.byte_fallback else "without"
        raise ValueError(f"{types.count(PieceType.BYTE)} byte pieces {fallback} byte fallback")
    if types[model.unknown : model.unknown + 1] != [PieceType.UNKNOWN]:
        raise ValueError(f"the id of the unknown is {model.unknown}")


def _model(data: memoryview) -> SentencePieceModel:
    pieces: list[Piece] = []
    trainer: dict[int, int] = {}
    normaliser: dict[int, int] = {}
    texts: dict[int, bytes] = {}
    for number, value in fields(data):
        if number == 1:
            if len(pieces) == MOST_PIECES:
                raise ValueError(f"more than {MOST_PIECES} pieces")
            pieces.append(_piece(part(value)))
        elif number == 2:
            trainer |= {key: found for key, found in fields(part(value)) if isinstance(found, int)}
        elif number == 3:
            for key, found in fields(part(value)):
                if isinstance(found, int):
                    normaliser[key] = found
                else:
                    texts[key] = bytes(found)
    unknown = [i for i, piece in enumerate(pieces) if piece.type == PieceType.UNKNOWN]
    return check(
        SentencePieceModel(
            pieces=pieces,
            algorithm=Algorithm(trainer.get(3, Algorithm.UNIGRAM)),
            byte_fallback=bool(trainer.get(35, 0)),
            normaliser=texts.get(1, b"").decode(),
            characters=texts.get(2, b""),
            space_first=bool(normaliser.get(3, 1)),
            remove_spaces=bool(normaliser.get(4, 1)),
            escape_spaces=bool(normaliser.get(5, 1)),
            space_last=bool(trainer.get(24, 0)),
            unknown=unknown[0] if unknown else -1,
            bos=_role(trainer.get(41, 1), pieces, "<s>"),
            eos=_role(trainer.get(42, 2), pieces, "</s>"),
            pad=_role(trainer.get(43, -1), pieces, "<pad>"),
        )
    )


def _role(number: int, pieces: Sequence[Piece], usual: str) -> int:
    """Id of a control piece, -1 where the file names none; negative numbers come as 64 bits."""
    index = number - 2**64 if number >= 2**63 else number
    if 0 <= index < len(pieces) and pieces[index].type == PieceType.CONTROL:
        return index
    named = [i for i, piece in enumerate(pieces) if piece.text == usual and piece.type == PieceType.CONTROL]
    return named[0] if named else -1


def _piece(data: memoryview) -> Piece:
    text, score, kind = b"", 0.0, PieceType.NORMAL
    for number, value in fields(data):
        if number == 1:
            text = bytes(part(value))
        elif number == 2:
            (score,) = struct.unpack("<f", part(value))
        elif number == 3 and isinstance(value, int):
            kind = PieceType(value)
    if not text:
        raise ValueError("a piece without text")
    return Piece(text.decode(), score, kind)
