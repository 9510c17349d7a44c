"""Sentencepiece files: what is written is read again; what does not fit together is refused before C++."""

import struct
from dataclasses import replace

import pytest

from congling.core.errors import UserError
from congling.tokenizer.imported import charsmap, sentencepiece_file
from congling.tokenizer.imported.sentencepiece_file import Algorithm, Piece, PieceType, SentencePieceModel
from support.vocabularies import SENTENCEPIECE, sentencepiece_model


@pytest.mark.parametrize("name", SENTENCEPIECE)
def test_a_model_is_read_again_as_it_was(name):
    model = sentencepiece_file.read(sentencepiece_model(name), "m")
    assert sentencepiece_file.read(model.serialised(), "m") == model


SOUND = SentencePieceModel(
    [Piece("<unk>", 0.0, PieceType.UNKNOWN), Piece("a", -1.0), Piece("b", -2.0)], Algorithm.UNIGRAM, False
)
FOLDING = sentencepiece_file.read(sentencepiece_model("unigram"), "m")


def with_pieces(*pieces):
    return replace(SOUND, pieces=[*SOUND.pieces, *pieces])


def charmap(units, replacements=b"x\0"):
    data = struct.pack(f"<{len(units)}I", *units)
    return replace(SOUND, characters=struct.pack("<I", len(data)) + data + replacements)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (with_pieces(Piece("a", 0.0)), "twice"),
        (with_pieces(Piece("c", float("nan"))), "score"),
        (with_pieces(Piece("c", float("inf"))), "score"),
        (with_pieces(Piece("x" * 5000, 0.0)), "bytes"),
        (with_pieces(Piece("a\0b", 0.0)), "zero byte"),
        (with_pieces(Piece("<0x41>", 0.0, PieceType.BYTE)), "byte fallback"),
        (with_pieces(Piece("<0xZZ>", 0.0, PieceType.BYTE)), "said to be a byte"),
        (with_pieces(Piece("<u>", 0.0, PieceType.UNKNOWN)), "unknown"),
        (replace(SOUND, pieces=SOUND.pieces[1:]), "unknown"),
        (replace(SOUND, byte_fallback=True), "byte fallback"),
        (replace(SOUND, characters=b"\0\4\0\0"), "character map"),
        (replace(SOUND, characters=FOLDING.characters[:-1]), "replacement"),
        (replace(SOUND, characters=FOLDING.characters[:5000]), "character map"),
        (charmap([0xFFFFFFFF & ~0x80000000] + [0] * 255), "outside"),
        (charmap([1 << 8, *[0x7FFFFFFF] * 255]), "not there"),
    ],
)
def test_parts_that_do_not_fit_are_refused(model, words):
    with pytest.raises(UserError, match=words):
        sentencepiece_file.read(model.serialised(), "m")


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\n", b"\xff" * 50, b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x0b\x00", b"\x0a\x00",
        b"\x80" * 20, SOUND.serialised()[:-3], b"\x0a\x02\x0a\x00", b"\x0a\x04\x0a\x02\xff\xfe",
        b"\x0a\x05\x15\x00\x00\x80\x3f", b"\x0a\x05\x0a\x01a\x18\x09", b"\x08\x01",
    ],
)  # fmt: skip
def test_broken_messages_are_refused(data):
    with pytest.raises(UserError, match="sentencepiece"):
        sentencepiece_file.read(data, "m")


def test_a_trie_that_goes_round_in_circles_ends():
    units = [0] * 256
    units[1] = 1 << 10 | 1  # reached by byte 1, and points at itself
    charsmap.check(charmap(units).characters)


def test_the_character_map_of_unicode_is_sound():
    charsmap.check(FOLDING.characters)
    damaged = bytearray(FOLDING.characters)
    damaged[4:8] = b"\xff\xff\xff\x7f"
    with pytest.raises(ValueError, match="outside"):
        charsmap.check(bytes(damaged))
