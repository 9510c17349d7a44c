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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from pathlib import Path

from congling.core.errors import UserError
from congling.tokenizer import charsmap

LONGEST_PIECE = 4096  # bytes; real ones have a few dozen
_SHORT = [bytes([value]) for value in range(0x80)]
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
            kind = b"" if piece.type == PieceType.NORMAL else b"\x18" + _SHORT[piece.type]
            body = b"\x0a" + _written(len(text)) + text + b"\x15" + struct.pack("<f", piece.score) + kind
            out += b"\x0a" + _written(len(body)) + body
        roles = [(40, self.unknown, 45), (41, self.bos, 46), (42, self.eos, 47), (43, self.pad, 48)]
        trainer = _number(3, self.algorithm) + _number(4, len(self.pieces))
        trainer += _number(24, self.space_last) + _number(35, self.byte_fallback)
        trainer += b"".join(_number(field, index) for field, index, _ in roles)
        trainer += b"".join(
            _text(name, self.pieces[index].text) for _, index, name in roles if 0 <= index < len(self.pieces)
        )
        normaliser = _text(1, self.normaliser) + _bytes(2, self.characters)
        normaliser += _number(3, self.space_first) + _number(4, self.remove_spaces)
        normaliser += _number(5, self.escape_spaces)
        return bytes(out + _bytes(2, trainer) + _bytes(3, normaliser))


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
    normaliser = [_part(value) for number, value in _fields(memoryview(data)) if number == 3]
    maps = [bytes(_part(value)) for part in normaliser for number, value in _fields(part) if number == 2]
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
    for number, value in _fields(data):
        if number == 1:
            if len(pieces) == MOST_PIECES:
                raise ValueError(f"more than {MOST_PIECES} pieces")
            pieces.append(_piece(_part(value)))
        elif number == 2:
            trainer |= {key: found for key, found in _fields(_part(value)) if isinstance(found, int)}
        elif number == 3:
            for key, found in _fields(_part(value)):
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
    for number, value in _fields(data):
        if number == 1:
            text = bytes(_part(value))
        elif number == 2:
            (score,) = struct.unpack("<f", _part(value))
        elif number == 3 and isinstance(value, int):
            kind = PieceType(value)
    if not text:
        raise ValueError("a piece without text")
    return Piece(text.decode(), score, kind)


def _part(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number stands where text was expected")
    return value


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Numbers and values of the fields of a message; ValueError where it is cut short or no message."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, place = _varint(data, place)
            yield number, value
            continue
        if wire == 2:
            size, place = _varint(data, place)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"a field of unknown type {wire} at byte {place}")
        if not number or size > len(data) - place:
            raise ValueError(f"a field of {size} bytes at byte {place} of {len(data)}")
        yield number, data[place : place + size]
        place += size


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    if place < len(data) and data[place] < 0x80:  # nearly all of them
        return data[place], place + 1
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise ValueError("the file is cut short")
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), place
    raise ValueError(f"a number without end at byte {place}")


def _field(number: int, wire: int) -> bytes:
    return _written(number << 3 | wire)


def _number(number: int, value: int) -> bytes:
    return _field(number, 0) + _written(int(value) & (2**64 - 1))


def _bytes(number: int, value: bytes) -> bytes:
    return _field(number, 2) + _written(len(value)) + value


def _text(number: int, value: str) -> bytes:
    return _bytes(number, value.encode())


def _written(value: int) -> bytes:
    if value < 0x80:
        return _SHORT[value]
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
