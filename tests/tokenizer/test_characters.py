"""Which tokens may follow: exactly those after which a text can still be one of whole characters."""

import codecs
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from congling.tokenizer import bpe, unigram
from congling.tokenizer.base import FIRST_BYTE, Tokenizer
from congling.tokenizer.character import CharacterTokenizer
from congling.tokenizer.characters import WHOLE, CharacterTable, after
from support.vocabularies import stories


def made(kind: str) -> Tokenizer:
    if kind == "character":
        return CharacterTokenizer("从零开始学写字")
    texts = stories(60)
    counts = Counter("".join(texts))
    if kind == "bpe":
        return bpe.train(texts, vocab_size=420, characters=counts, digits=1, longest_token=4)
    return unigram.train(texts, vocab_size=400, characters=counts, longest_token=4)


@pytest.fixture(scope="module", params=["character", "bpe", "unigram"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return made(request.param)


@given(st.binary(max_size=12))
def test_bytes_may_stand_where_python_reads_them(data: bytes) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    try:
        decoder.decode(data)
        rest = decoder.getstate()[0]
    except UnicodeDecodeError:
        assert after(WHOLE, data) == -1
    else:
        assert (after(WHOLE, data) == WHOLE) == (not rest) and after(WHOLE, data) >= 0


@given(st.text(max_size=8), st.data())
def test_every_character_can_be_spelt_in_bytes(text: str, data: st.DataObject) -> None:
    encoded = text.encode()
    cut = data.draw(st.integers(0, len(encoded)))
    assert after(after(WHOLE, encoded[:cut]), encoded[cut:]) == WHOLE


def test_what_may_follow_is_always_text(tokenizer: Tokenizer) -> None:
    table, draw = tokenizer.character_table, random.Random(5)
    assert table.spells
    spelt = [i for i in range(tokenizer.vocab_size) if tokenizer.is_byte(i)]
    for _ in range(300):
        state, written = WHOLE, b""
        for _ in range(20):
            allowed = np.flatnonzero(table.behind[state] >= 0)
            parts = [i for i in spelt if table.behind[state, i] >= 0]  # often, so that characters are begun
            index = draw.choice(parts if parts and draw.random() < 0.7 else allowed.tolist())
            state, written = int(table.behind[state, index]), written + tokenizer.token_bytes(index)
            codecs.getincrementaldecoder("utf-8")("strict").decode(written)
        begun = len(written) - len(written.decode(errors="ignore").encode())
        assert begun == 0 if state == WHOLE else 0 < begun < 4


def test_whatever_encoding_writes_may_follow(tokenizer: Tokenizer) -> None:
    table = tokenizer.character_table
    for text in (*stories(5), "龘😀é\u200b\x00한", "かな𠀀"):
        state = WHOLE
        for index in tokenizer.encode(text):
            state = int(table.behind[state, index])
            assert state >= 0, (text, tokenizer.token_bytes(index))
        assert state == WHOLE


def test_no_special_token_ends_a_text_within_a_character(tokenizer: Tokenizer) -> None:
    table = tokenizer.character_table
    for index in {*tokenizer.special.values(), *tokenizer.stop_ids}:
        assert table.behind[WHOLE, index] == WHOLE and (table.behind[1:, index] < 0).all()


class Without(CharacterTokenizer):
    """A vocabulary in which some bytes are lacking."""

    lacking: range = range(0)

    def piece(self, index: int) -> bytes:
        if index - FIRST_BYTE in self.lacking:
            raise IndexError(index)
        return super().piece(index)


@pytest.mark.parametrize(
    "lacking", [range(0x80, 0xC0), range(0xA0, 0xC0), range(0xE0, 0xF8), range(0x80, 0x100)]
)
def test_what_no_token_can_end_is_not_begun(lacking: range) -> None:
    tokenizer = Without("从零")
    tokenizer.lacking = lacking
    table = CharacterTable(tokenizer)
    reached = set(table.behind[WHOLE][table.behind[WHOLE] >= 0].tolist())
    while more := {int(s) for r in reached for s in table.behind[r] if s >= 0} - reached:
        reached |= more
    assert all((table.behind[state] >= 0).any() for state in reached)
    assert table.behind[WHOLE, tokenizer.encode("从")[0]] == WHOLE


def test_a_vocabulary_of_whole_characters_has_nothing_to_spell() -> None:
    tokenizer = Without("从零")
    tokenizer.lacking = range(0x80, 0x100)
    assert not CharacterTable(tokenizer).spells
