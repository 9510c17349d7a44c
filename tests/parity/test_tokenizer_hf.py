"""Tokenizers in transformers: our directories and what is exported give our ids, without foreign code."""

import random

import pytest

from congling.interop.hf import tokenizer as exported
from congling.tokenizer import store
from congling.tokenizer.chat.encode import chat_ids
from congling.tokenizer.config import TokenizerConfig
from congling.tokenizer.imported import read
from congling.tokenizer.training import train
from support.vocabularies import (
    BYTE_LEVEL,
    SENTENCEPIECE,
    hugging_face,
    provoking,
    sentencepiece_model,
    stories,
)


def test_same_ids_as_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    draw = random.Random(5)
    words = [
        "天气",
        "很好",
        "，",
        "。",
        "“",
        "”",
        " we",
        " have",
        "don't",
        "2026",
        "年",
        "\n",
        "　　",
        "！",
        "end.Next",
    ]
    texts = ["".join(draw.choices(words, k=60)) for _ in range(300)]
    train(TokenizerConfig(vocab_size=420), lambda: iter(texts), tmp_path / "out")
    ours = store.load(tmp_path / "out")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "out" / "tokenizer.json"))
    probes = [*texts[:100], "  \n \t他说：“好。”", "𠀀😀é", "It's 12345 o'clock!!!  ok"]
    for text in probes:
        assert theirs.encode(text, add_special_tokens=False) == ours.encode(text)
        assert theirs.decode(ours.encode(text), clean_up_tokenization_spaces=False) == text
    assert theirs.convert_tokens_to_ids("<|im_end|>") == ours.special["<|im_end|>"]
    assert len(theirs) == ours.vocab_size
    chat = [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "好"}]
    rendered = theirs.apply_chat_template(chat, chat_template=ours.chat_template, tokenize=False)
    assert rendered == "<|im_start|>user\n你好<|im_end|>\n<|im_start|>assistant\n好<|im_end|>\n"


def written(tokenizer, folder):
    """A folder as the export of a model leaves it, opened by AutoTokenizer."""
    transformers = pytest.importorskip("transformers")
    folder.mkdir()
    exported.write(tokenizer, folder, 64)
    (folder / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    return transformers.AutoTokenizer.from_pretrained(str(folder))


def assert_equal(ours, folder):
    """Ids, texts and what comes first equal those of AutoTokenizer; the folder read back is the same."""
    theirs = written(ours, folder)
    back = read.read(folder)
    for text in [*stories(15), *provoking(200)]:
        ids = ours.encode(text)
        assert theirs.encode(text, add_special_tokens=False) == ids, text
        assert theirs.decode(ids) == ours.decode(ids), text
        assert theirs(text).input_ids == [*ours.prefix_ids, *ids]
        assert back.encode(text) == ids
    assert (len(theirs), theirs.eos_token_id, theirs.pad_token_id) == (
        ours.vocab_size,
        ours.eos_id,
        ours.pad_id,
    )
    assert (back.roles, back.special) == (ours.roles, ours.special)
    assert theirs.model_max_length == 64
    chat = [{"role": "user", "content": "你好"}]
    assert chat_ids(back, chat) == chat_ids(ours, chat)
    assert back.kind == ours.kind


@pytest.mark.parametrize("kind", ["bpe", "unigram", "character"])
def test_autotokenizer_gives_our_ids(kind, tmp_path):
    train(TokenizerConfig(kind=kind, vocab_size=420), lambda: iter(stories()), tmp_path / "own")
    assert_equal(store.load(tmp_path / "own"), tmp_path / "hf")


@pytest.mark.parametrize("name", SENTENCEPIECE)
def test_autotokenizer_gives_the_ids_of_sentencepiece(name, tmp_path):
    (tmp_path / "m.model").write_bytes(sentencepiece_model(name))
    assert_equal(read.read(tmp_path / "m.model"), tmp_path / "hf")
    assert (tmp_path / "hf" / "tokenizer.model").is_file()


@pytest.mark.parametrize("name", BYTE_LEVEL)
def test_autotokenizer_gives_the_ids_of_a_tokenizer_json(name, tmp_path):
    assert_equal(read.read(hugging_face(name, tmp_path / "in")), tmp_path / "hf")


@pytest.mark.parametrize("before", ["", "{{ bos_token }}"])
@pytest.mark.parametrize("kind", ["bpe", "unigram", "character"])
def test_a_chat_begins_there_as_it_does_here(kind, before, tmp_path):
    train(TokenizerConfig(kind=kind, vocab_size=420), lambda: iter(stories()), tmp_path / "own")
    ours = store.load(tmp_path / "own")
    ours.chat_template = before + ours.chat_template
    theirs = written(ours, tmp_path / "hf")
    chat = [{"role": "user", "content": "你好"}]
    ids = theirs.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    assert ids == chat_ids(ours, chat) and ids[:1] == [ours.bos_id] != ids[1:2]
