"""All kinds: nothing is lost, nothing crosses a sentence mark, the same text gives the same vocabulary."""

import json
import random
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from congling.core import artifact
from congling.core.errors import UserError
from congling.tokenizer import store
from congling.tokenizer.base import FIRST_BYTE, SPECIAL
from congling.tokenizer.config import TokenizerConfig
from congling.tokenizer.split import crosses_sentence, safe_chunks
from congling.tokenizer.training import train

KINDS = ("bpe", "unigram", "character")
NAMES = ("小明", "老王", "李雷", "韩梅梅", "阿花")
PLACES = ("学校", "河边的小镇", "山上", "market", "图书馆")
THINGS = ("苹果", "一本旧书", "风筝", "12个橘子", "apple pie", "灯笼")
WORDS = [a + b for a in "东西南北春夏秋冬天地" for b in "风花雪月山水云雨人心"]


def story(seed: int, sentences: int = 12) -> str:
    """A few lines of mixed text, enough for pieces to form."""
    draw = random.Random(seed)
    lines = []
    for _ in range(sentences):
        name, place, thing = draw.choice(NAMES), draw.choice(PLACES), draw.choice(THINGS)
        lines.append(
            f"{name}去{place}，带着{thing}。“你好！”{name}说：“It's {draw.randint(1, 2000)}.”\n　　后来呢？……"
        )
        lines.append("".join(draw.choices(WORDS, k=20)) + "。")
    return "\n".join(lines)


CORPUS = [story(seed) for seed in range(60)]


def corpus():
    return iter(CORPUS)


@pytest.fixture(scope="module", params=KINDS)
def trained(request, tmp_path_factory):
    out = tmp_path_factory.mktemp("tokenizers") / request.param
    found = train(TokenizerConfig(kind=request.param, vocab_size=460), corpus, out)
    return store.load(out), found


TEXTS = st.text(max_size=60) | st.text(
    alphabet="小明去学校。，！？ \n\r\t▁<|im_endstart>'s1 2\u0301😀𠀀　", max_size=60
)


def test_spaces_survive_a_vocabulary_learnt_from_text_without_any(tmp_path):
    train(
        TokenizerConfig(kind="unigram", vocab_size=420),
        lambda: iter(["小明去学校。学校很大！"] * 200),
        tmp_path / "out",
    )
    tokenizer = store.load(tmp_path / "out")
    for text in (" ", "  ", "小明 去▁学校。 ▁ ", "▁"):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()


@settings(max_examples=150, deadline=None)
@example("")
@example("\n\n  leading")
@example(" 　\t\r\n")
@example("𠀀𪚥😀👩‍👩‍👧")
@example("<|im_end|><|endoftext|><|im_start|>")
@example("▁ ▁▁")
@example("<0x0A>\0\x1f")
@given(TEXTS)
def test_every_string_survives(trained, text):
    tokenizer, _ = trained
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert not set(ids) & set(tokenizer.special.values())
    assert b"".join(tokenizer.token_bytes(index) for index in ids) == text.encode()
    assert tokenizer.encode_batch([text, "小明", text]) == [ids, tokenizer.encode("小明"), ids]


def test_special_tokens_decode_to_their_text(trained):
    tokenizer, _ = trained
    ids = [tokenizer.special["<|im_start|>"], *tokenizer.encode("你好"), tokenizer.special["<|im_end|>"]]
    assert tokenizer.decode(ids) == "<|im_start|>你好<|im_end|>"
    assert tokenizer.decode(ids, skip_special=True) == "你好"
    assert tokenizer.bos_id == tokenizer.eos_id == tokenizer.special["<|endoftext|>"] == 1


def test_unknown_ids_are_refused(trained):
    tokenizer, _ = trained
    for index in (-1, tokenizer.vocab_size):
        with pytest.raises(IndexError):
            tokenizer.decode([index])


def test_no_token_crosses_a_sentence_mark(trained):
    tokenizer, _ = trained
    for index in range(tokenizer.vocab_size):
        if index not in tokenizer.special.values() and not tokenizer.is_byte(index):
            assert not crosses_sentence(tokenizer.token_bytes(index).decode()), index


def test_han_digits_and_latin_do_not_mix(trained):
    tokenizer, _ = trained
    for index in set(tokenizer.encode("\n".join(CORPUS))):
        text = tokenizer.token_bytes(index).decode("utf-8", errors="ignore")
        kinds = ("[一-龥]", "[0-9]", "[A-Za-z]", "[。，！？：“”…]")
        assert sum(re.search(kind, text) is not None for kind in kinds) <= 1, text
        assert sum(c.isdigit() for c in text) <= 1, text


def test_pieces_are_learnt(trained):
    tokenizer, found = trained
    if tokenizer.kind == "character":
        assert len(tokenizer.encode("小明去")) == 3
    else:
        assert found.report.characters_per_token > 1.2
        assert len(tokenizer.encode("小明去")) <= 2
    assert found.report.vocab_size == tokenizer.vocab_size <= 460


def test_training_twice_gives_the_same_directory(trained, tmp_path):
    tokenizer, found = trained
    again = train(TokenizerConfig(kind=tokenizer.kind, vocab_size=460), corpus, tmp_path / "again")
    assert again.artifact.fingerprint == found.artifact.fingerprint == tokenizer.fingerprint


def test_a_vocabulary_beyond_the_corpus_is_reduced(trained, tmp_path):
    tokenizer, _ = trained
    found = train(TokenizerConfig(kind=tokenizer.kind, vocab_size=60_000), corpus, tmp_path / "large")
    assert found.report.vocab_size < 5000
    assert any("60,000" in note for note in found.notes)
    assert (
        store.load(tmp_path / "large").decode(store.load(tmp_path / "large").encode(CORPUS[0])) == CORPUS[0]
    )


def test_a_vocabulary_smaller_than_the_alphabet_spells_the_rest_in_bytes(trained, tmp_path):
    train(TokenizerConfig(kind=trained[0].kind, vocab_size=320), corpus, tmp_path / "small")
    tokenizer = store.load(tmp_path / "small")
    ids = tokenizer.encode(CORPUS[0])
    assert tokenizer.vocab_size <= 320
    assert tokenizer.decode(ids) == CORPUS[0]
    assert any(tokenizer.is_byte(index) for index in ids)


def test_long_texts_are_cut_where_ids_do_not_change(trained):
    tokenizer, _ = trained
    text = "\n".join(CORPUS)
    chunks = list(safe_chunks(text, 200))
    assert "".join(chunks) == text
    assert len(chunks) > 50
    assert [index for chunk in chunks for index in tokenizer.encode(chunk)] == tokenizer.encode(text)


def test_text_without_borders_is_cut_anyway():
    chunks = list(safe_chunks("a" * 10_000, 100))
    assert "".join(chunks) == "a" * 10_000
    assert max(map(len, chunks)) <= 400


def test_a_damaged_directory_is_named(trained, tmp_path):
    tokenizer, found = trained
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in found.artifact.path.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert store.load(copy).fingerprint == tokenizer.fingerprint
    name = "tokenizer.model" if tokenizer.kind == "unigram" else "tokenizer.json"
    (copy / name).write_bytes((copy / name).read_bytes()[:-20])
    with pytest.raises(UserError, match="checksum"):
        store.load(copy)


def resealed(folder, kind, content):
    """Put a hostile file in place with a manifest that matches it."""
    folder.mkdir()
    described = {"kind": kind, "vocab_size": 300, "special": SPECIAL, "chat_template": ""}
    (folder / "congling.json").write_text(json.dumps(described), encoding="utf-8")
    (folder / ("tokenizer.model" if kind == "unigram" else "tokenizer.json")).write_bytes(content)
    artifact.seal(folder, "tokenizer", parents={}, facts={})
    return folder


HOSTILE = [
    b"",
    b"[]",
    b"{}",
    b'{"model": {"merges": [["a"]], "vocab": {}}}',
    b'{"model": {"merges": [["a", "zz"]]}}',
    b'{"model": {"merges": [], "vocab": {"a": 0}}}',
    b'{"characters": "aa"}',
    b'{"characters": 7}',
    b"\xff\x00" * 50,
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content", HOSTILE)
def test_hostile_files_are_errors_with_words(tmp_path, kind, content):
    with pytest.raises(UserError):
        store.load(resealed(tmp_path / "hostile", kind, content))


def test_empty_text_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no text"):
        train(TokenizerConfig(), lambda: iter([""]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tiny_texts_stay_near_character_level(tmp_path):
    text = "云对雨，雪对风，晚照对晴空。\n来鸿对去燕，宿鸟对鸣虫。\n三尺剑，六钧弓，岭北对江东。"
    for kind in KINDS:
        train(TokenizerConfig(kind=kind), lambda: iter([text]), tmp_path / kind)
        tokenizer = store.load(tmp_path / kind)
        assert tokenizer.decode(tokenizer.encode("云对雨，他们")) == "云对雨，他们"
        assert kind == "unigram" or len(tokenizer.encode(text)) <= len(text)


def test_bytes_have_the_ids_that_llama2c_expects(tmp_path):
    for kind in ("bpe", "character"):
        train(TokenizerConfig(kind=kind, vocab_size=400), corpus, tmp_path / kind)
        tokenizer = store.load(tmp_path / kind)
        assert [tokenizer.token_bytes(FIRST_BYTE + byte) for byte in range(256)] == [
            bytes([byte]) for byte in range(256)
        ]
