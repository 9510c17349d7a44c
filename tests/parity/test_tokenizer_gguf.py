"""Tokenizers in the real llama.cpp: the same ids for every text, and read back, the same tokenizer again."""

from pathlib import Path

import numpy as np
import pytest

from congling.core.errors import UserError
from congling.interop.engines.llama_cpp import LlamaCpp
from congling.interop.gguf.file import Field, GGUFFile, TensorData, write_gguf
from congling.interop.gguf.pretokenizers import SPLITS
from congling.interop.gguf.vocabulary import fields, tokenizer_from
from congling.interop.hf import tokenizer as exported
from congling.tokenizer import store
from congling.tokenizer.config import TokenizerConfig
from congling.tokenizer.imported import read
from congling.tokenizer.training import train
from support.vocabularies import (
    BYTE_LEVEL,
    SPECIAL_TEXTS,
    hugging_face,
    provoking,
    sentencepiece_model,
    stories,
)

pytest.importorskip("xllamacpp")

TEXTS = [*stories(15), *provoking(200, extra=SPECIAL_TEXTS)]
WIDTH = 32
EXACT = ("unigram", "unigram-plain", "unigram-users", "bpe", "bpe-no-space")
REFUSED = ("bpe-folding", "unigram-bytes")


def model_file(path: Path, vocabulary: dict[str, Field]) -> Path:
    """The smallest model there can be, around a vocabulary."""
    sizes = {"context_length": 64, "embedding_length": WIDTH, "block_count": 1, "feed_forward_length": WIDTH}
    sizes |= {"attention.head_count": 1, "attention.head_count_kv": 1, "rope.dimension_count": WIDTH}
    keys = {"general.architecture": Field("string", "llama")}
    keys |= {f"llama.{key}": Field("u32", value) for key, value in sizes.items()}
    keys["llama.attention.layer_norm_rms_epsilon"] = Field("f32", 1e-5)
    matrices = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    shapes = {"token_embd": (len(vocabulary["tokenizer.ggml.tokens"].value), WIDTH)}
    shapes |= {"output_norm": (WIDTH,), "blk.0.attn_norm": (WIDTH,), "blk.0.ffn_norm": (WIDTH,)}
    shapes |= {f"blk.0.{name}": (WIDTH, WIDTH) for name in matrices}
    tensors = [
        TensorData(f"{name}.weight", shape, "F32", lambda shape=shape: np.zeros(shape, np.float32))
        for name, shape in shapes.items()
    ]
    write_gguf(path, keys | vocabulary, tensors)
    return path


def assert_equal(tokenizer, folder, texts):
    """Ids and pieces equal those of llama.cpp, before and after the way through the file."""
    path = model_file(folder / "model.gguf", fields(tokenizer))
    back = tokenizer_from(GGUFFile.open(path).fields, path)
    special = set(tokenizer.special.values())
    with LlamaCpp(path, context=64) as engine:
        for text in texts:
            ids = engine.tokenize(text)
            assert tokenizer.encode(text) == ids, text
            assert back.encode(text) == ids, text
        for index in range(tokenizer.vocab_size):
            assert index in special or engine.piece(index) == tokenizer.piece(index)
        first = engine.tokenize("小明", bos=True)
    assert first == [*tokenizer.prefix_ids, *tokenizer.encode("小明")]
    assert (back.kind, back.roles, back.special) == (tokenizer.kind, tokenizer.roles, tokenizer.special)
    assert back.chat_template == tokenizer.chat_template


@pytest.mark.parametrize("kind", ["bpe", "character"])
def test_ours(kind, tmp_path):
    train(TokenizerConfig(kind=kind, vocab_size=420), lambda: iter(stories()), tmp_path / "own")
    texts = [text for text in TEXTS if kind == "bpe" or "▁" not in text]
    assert_equal(store.load(tmp_path / "own"), tmp_path, texts)


def test_a_character_vocabulary_without_the_space_spells_spaces_all_the_same(tmp_path):
    train(
        TokenizerConfig(kind="character", vocab_size=400), lambda: iter(["没有空格的文字"]), tmp_path / "own"
    )
    assert_equal(store.load(tmp_path / "own"), tmp_path, [text for text in TEXTS if "▁" not in text])


def test_our_unigram_is_refused_or_inexact(tmp_path):
    train(TokenizerConfig(kind="unigram", vocab_size=420), lambda: iter(stories()), tmp_path / "own")
    tokenizer = store.load(tmp_path / "own")
    with pytest.raises(UserError, match="kind=bpe"):
        fields(tokenizer)
    path = model_file(tmp_path / "model.gguf", fields(tokenizer, inexact=True))
    with LlamaCpp(path, context=64) as engine:
        same = [engine.tokenize(text) == tokenizer.encode(text) for text in stories(50)]
    assert sum(same) == len(same)  # characters of the corpus need no bytes


@pytest.mark.parametrize("name", EXACT)
def test_sentencepiece(name, tmp_path):
    (tmp_path / "m.model").write_bytes(sentencepiece_model(name))
    tokenizer = read.read(tmp_path / "m.model")
    texts = [text for text in TEXTS if text.strip(" ") or not name.startswith("unigram-")]
    texts.append("\ufdfa" * 40)  # one character that normalisers make 18 of
    path = model_file(tmp_path / "model.gguf", fields(tokenizer))
    back = tokenizer_from(GGUFFile.open(path).fields, path)
    assert (back.roles, back.special, back.vocab_size) == (
        tokenizer.roles,
        tokenizer.special,
        tokenizer.vocab_size,
    )
    with LlamaCpp(path, context=64) as engine:
        for text in texts:
            assert tokenizer.encode(text) == back.encode(text) == engine.tokenize(text), text


@pytest.mark.parametrize("name", REFUSED)
def test_what_llama_cpp_cannot_do_is_refused_with_the_nearest_choice(name, tmp_path):
    (tmp_path / "m.model").write_bytes(sentencepiece_model(name))
    tokenizer = read.read(tmp_path / "m.model")
    with pytest.raises(UserError, match=r"llama\.cpp(.|\n)*help: train it"):
        fields(tokenizer)
    path = model_file(tmp_path / "model.gguf", fields(tokenizer, inexact=True))
    with LlamaCpp(path, context=64) as engine:
        assert engine.vocab_size == tokenizer.vocab_size


@pytest.mark.parametrize("name", ["bpe", "bpe-no-space"])
def test_a_tokenizer_json_with_merges_gets_scores(name, tmp_path):
    (tmp_path / "m.model").write_bytes(sentencepiece_model(name))
    folder = tmp_path / "hf"
    folder.mkdir()
    exported.write(read.read(tmp_path / "m.model"), folder, 64)
    (folder / "tokenizer.model").unlink()
    tokenizer = read.read(folder)
    assert tokenizer.kind == "hf"
    path = model_file(tmp_path / "model.gguf", fields(tokenizer))
    with LlamaCpp(path, context=64) as engine:
        for text in TEXTS:
            assert tokenizer.encode(text) == engine.tokenize(text), text


@pytest.mark.parametrize("name", BYTE_LEVEL)
def test_byte_level_vocabularies_of_others(name, tmp_path):
    tokenizer = read.read(hugging_face(name, tmp_path / "hf"))
    texts = [text for text in TEXTS if name != "qwen2" or "\u0301" not in text]
    assert_equal(tokenizer, tmp_path, texts)


@pytest.mark.parametrize("name", SPLITS)
def test_every_split_is_llama_cpps(name, tmp_path):
    keys = fields(read.read(hugging_face("gpt2", tmp_path / "hf")))
    path = model_file(tmp_path / "model.gguf", keys | {"tokenizer.ggml.pre": Field("string", name)})
    tokenizer = tokenizer_from(GGUFFile.open(path).fields, path)
    with LlamaCpp(path, context=64) as engine:
        for text in TEXTS[::3]:
            assert tokenizer.encode(text) == engine.tokenize(text), text


CORPORA = ("hlm/hlm_001-080.txt", "slqm/slqm.txt", "moe_dict/mini.jsonl", "shakespeare/tinyshakespeare.txt")


@pytest.mark.parametrize("kind", ["bpe", "character", "spm_unigram_718", "spm_bpe"])
def test_real_prose(kind, tmp_path, corpora):
    import sentencepiece

    texts = [(corpora / name).read_text(encoding="utf-8")[:60_000] for name in CORPORA]
    settings = {"spm_unigram_718": {"model_type": "unigram", "vocab_size": 718}}
    settings["spm_bpe"] = {
        "model_type": "bpe",
        "vocab_size": 1500,
        "byte_fallback": True,
        "max_sentence_length": 100_000,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
    }
    if kind in settings:
        source = corpora / "slqm" / "slqm.txt"
        sentencepiece.SentencePieceTrainer.Train(
            input=str(source), model_prefix=str(tmp_path / "m"), minloglevel=2, **settings[kind]
        )
        tokenizer = read.read(tmp_path / "m.model")
    else:
        train(TokenizerConfig(kind=kind, vocab_size=1500), lambda: iter(texts), tmp_path / "own")
        tokenizer = store.load(tmp_path / "own")
    assert_equal(tokenizer, tmp_path, [text[i : i + 1000] for text in texts for i in range(0, 60_000, 1000)])
