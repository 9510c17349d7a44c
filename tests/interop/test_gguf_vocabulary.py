"""Vocabularies in GGUF keys that are damaged or that nobody can run: one error that says so."""

import numpy as np
import pytest
import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from congling.core.errors import UserError
from congling.interop.gguf.fields import Field
from congling.interop.gguf.vocabulary import fields, tokenizer_from
from congling.tokenizer.base import Roles
from congling.tokenizer.bpe import train
from congling.tokenizer.character import CharacterTokenizer
from congling.tokenizer.imported import read
from congling.tokenizer.imported.hf_json import HuggingFaceTokenizer
from support.vocabularies import hugging_face, sentencepiece_model, stories

TEXTS = stories(100)


@pytest.fixture(scope="module")
def bpe():
    """A byte-level vocabulary of ours."""
    counts = {character: 9 for text in TEXTS for character in text}
    return train(iter(TEXTS), vocab_size=400, characters=counts, digits=1, longest_token=8)


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A sentencepiece BPE."""
    file = tmp_path_factory.mktemp("pieces") / "m.model"
    file.write_bytes(sentencepiece_model("bpe"))
    return read.read(file)


def key(name):
    return f"tokenizer.ggml.{name}"


def strings(*values):
    return Field("array:string", list(values))


def test_rows_without_a_token_get_fillers(bpe):
    keys = fields(bpe, vocab_size=bpe.vocab_size + 5)
    assert len(keys[key("tokens")].value) == len(keys[key("token_type")].value) == bpe.vocab_size + 5
    assert keys[key("tokens")].value[-1] == f"[PAD{bpe.vocab_size + 4}]"
    assert keys[key("token_type")].value[-5:].tolist() == [5] * 5
    assert tokenizer_from(keys).vocab_size == bpe.vocab_size
    with pytest.raises(UserError, match="more ids than the model"):
        fields(bpe, vocab_size=bpe.vocab_size - 1)


def test_the_keys_say_what_the_tokenizer_does(bpe, pieces):
    keys = fields(bpe)
    assert (keys[key("model")].value, keys[key("pre")].value) == ("gpt2", "deepseek-v3")
    roles = [keys[key(f"{name}_token_id")].value for name in ("bos", "eos", "eot", "padding")]
    assert roles == [1, 1, 2, 1] and keys[key("add_bos_token")].value is True
    assert keys[key("token_type")].value[:4].tolist() == [3, 3, 3, 1]
    keys = fields(pieces)
    assert keys[key("model")].value == "llama" and keys[key("add_space_prefix")].value is True
    assert keys[key("token_type")].value[:4].tolist() == [2, 3, 3, 6]


def test_a_character_vocabulary_with_other_roles_is_not_taken_for_ours():
    ours = CharacterTokenizer("天地 ")
    keys = fields(ours)
    assert tokenizer_from(keys).kind == "character"
    other = tokenizer_from(keys | {key("add_bos_token"): Field("bool", False)})
    assert (other.kind, other.prefix_ids, other.encode("天 地")) == (
        "sentencepiece",
        (),
        ours.encode("天 地"),
    )
    twice = [" " if text == "地" else text for text in keys[key("tokens")].value]
    assert tokenizer_from(keys | {key("tokens"): strings(*twice)}).kind == "sentencepiece"


@pytest.mark.parametrize(("name", "value"), [("end_of_word_suffix", "</w>"), ("type", "Unigram")])
def test_byte_level_vocabularies_that_llama_cpp_would_take_for_others_are_refused(name, value, tmp_path):
    tokenizer = read.read(hugging_face("gpt2", tmp_path / "hf"))
    tokenizer.content["model"][name] = value
    with pytest.raises(UserError, match="merges alone"):
        fields(tokenizer)


def test_a_split_without_a_name_is_refused_and_named(tmp_path):
    folder = hugging_face("llama3", tmp_path / "hf")
    file = folder / "tokenizer.json"
    file.write_text(file.read_text(encoding="utf-8").replace("{1,3}", "{1,7}"), encoding="utf-8")
    with pytest.raises(UserError, match=r"no name(.|\n)*1,7"):
        fields(read.read(folder))


def test_special_tokens_that_train_text_from_scratch_had_not_are_none(pieces):
    """It wrote 2^32-1 for a token that does not exist, which has to open: its models are what people have."""
    keys = fields(pieces)
    ids = ("unknown", "padding", "seperator")
    found = tokenizer_from(keys | {key(f"{name}_token_id"): Field("u32", 2**32 - 1) for name in ids})
    assert found.encode("天地玄黄") == pieces.encode("天地玄黄")
    assert (found.bos_id, found.eos_id) == (pieces.bos_id, pieces.eos_id)


DAMAGE = {
    "no tokenizer": {key("model"): None},
    "not known here": {key("model"): Field("string", "rwkv")},
    "splits texts": {key("pre"): Field("string", "nobody's")},
    "has no tokens": {key("tokens"): strings()},
    "wrong type": {key("tokens"): Field("array:i32", np.zeros(3, np.int32))},
    "no UTF-8": {key("tokens"): ("first", "\udcff")},
    "same text": {key("tokens"): ("first", "<|im_end|>")},
    "token_type is shorter": {key("token_type"): Field("array:i32", np.ones(3, np.int32))},
    "eos_token_id is outside": {key("eos_token_id"): Field("u32", 2**31)},
    "bos_token_id is outside": {key("bos_token_id"): Field("i32", -1)},
    "add_bos_token has the wrong type": {key("add_bos_token"): Field("string", "yes")},
    "merge of one part": {key("merges"): strings("ab")},
    "not sound": {key("merges"): strings("nowhere else")},
    "without merges": {key("merges"): None},
    "more merges than tokens": {key("merges"): strings(*["a b"] * 10_000)},
    "template is no UTF-8": {"tokenizer.chat_template": Field("string", "\udcff")},
    "token_type has the wrong type": {
        key("token_type"): Field("array:f32", np.full(500, np.nan, np.float32))
    },
}


@pytest.mark.parametrize("words", DAMAGE)
def test_damaged_keys_are_named(words, bpe):
    keys = fields(bpe)
    for name, value in DAMAGE[words].items():
        if value is None:
            del keys[name]
        elif isinstance(value, tuple):
            keys[name] = strings(value[1], *keys[name].value[1:])
        else:
            keys[name] = value
    with pytest.raises(UserError, match=words):
        tokenizer_from(keys)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("scores", Field("array:f32", np.full(420, np.nan, np.float32))),
        ("scores", Field("array:f32", np.zeros(3, np.float32))),
        ("unknown_token_id", Field("u32", 10**6)),
        ("tokens", strings(*map(str, range(420)))),
    ],
)
def test_damaged_pieces_are_refused(name, field, pieces):
    with pytest.raises(UserError):
        tokenizer_from(fields(pieces) | {key(name): field})


def test_a_damaged_character_map_is_refused(tmp_path):
    (tmp_path / "m.model").write_bytes(sentencepiece_model("unigram"))
    keys = fields(read.read(tmp_path / "m.model"))
    table = keys[key("precompiled_charsmap")].value.copy()
    table[4:8] = 255
    with pytest.raises(UserError, match="character map"):
        tokenizer_from(keys | {key("precompiled_charsmap"): Field("array:u8", table)})


def test_vocabularies_without_bytes_or_an_unknown_token_still_open(pieces):
    """Old files type everything as ordinary, or have a few bytes only."""
    keys = fields(pieces)
    types = keys[key("token_type")].value.copy()
    types[5:200] = 5
    tokenizer = tokenizer_from(keys | {key("token_type"): Field("array:i32", types)})
    assert tokenizer.encode("学校") and not tokenizer.lossless
    types = keys[key("token_type")].value.copy()
    types[0] = 3
    again = tokenizer_from(keys | {key("token_type"): Field("array:i32", types)})
    assert again.encode("学校") == pieces.encode("学校")


@pytest.mark.parametrize("attribute", ["lstrip", "rstrip", "single_word"])
def test_tokens_that_take_in_what_stands_beside_them_are_refused(attribute):
    """Where a text or the template has them; elsewhere nothing depends on it."""
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = tokenizers.Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(symbols)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken("<s>", special=True)])
    made.add_special_tokens([AddedToken("<turn>", special=True, **{attribute: True})])
    roles = Roles(None, 256, 256, frozenset({256}))
    template = "{% for m in messages %}<turn>{{ m['content'] }}{% endfor %}"
    written = HuggingFaceTokenizer(made.to_str(), None, template, "", roles)
    with pytest.raises(UserError, match="lstrip, rstrip, single_word, normalized.*<turn>.*\n.*--to hf"):
        fields(written)
    assert fields(written, inexact=True)
    assert fields(HuggingFaceTokenizer(made.to_str(), None, "{{ messages }}", "", roles))
