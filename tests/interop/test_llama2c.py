"""llama2.c: files of all versions beside the steps of run.c, vocabularies, and files that are damaged."""

import io
import struct

import numpy as np
import pytest
import sentencepiece
import torch

from congling.core.errors import UserError
from congling.interop.detect import kind_of
from congling.interop.engines.llama2c import Llama2C
from congling.interop.foreign import ForeignModel
from congling.interop.llama2c import model as llama2c
from congling.interop.llama2c import tokenizer_bin
from congling.interop.llama2c.vocabulary import Vocabulary
from congling.model.families import llama, qwen3
from congling.model.transformer import Transformer
from congling.tokenizer import bpe
from congling.tokenizer.character import CharacterTokenizer
from congling.tokenizer.imported import sentencepiece_file
from congling.tokenizer.imported.sentencepiece import SentencePieceTokenizer

TEXT = "学而时习之，不亦说乎？ Let's read: 他说 12 遍。😀"
PROSE = (
    "学而时习之，不亦说乎？有朋自远方来，不亦乐乎？人不知而不愠，不亦君子乎？ Let's read it 12 times.\n" * 30
)
CHARACTERS = CharacterTokenizer("的一是了他学而时习之，。说不")


def tiny(*, epsilon=1e-5, tied=True, **sizes):
    config = llama(
        vocab_size=280,
        max_position_embeddings=64,
        num_hidden_layers=2,
        hidden_size=64,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        **sizes,
    )
    model = Transformer(config.replace(norm={"eps": epsilon})).eval()
    torch.manual_seed(0)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, mean=float(weight.dim() == 1), std=0.15)
    return model


def foreign(model, tokenizer=CHARACTERS):
    return ForeignModel(model.config, model.state_dict(), tokenizer)


def logits(model, ids):
    with torch.no_grad():
        return model.logits(model(torch.tensor([ids])))[0].numpy()


def bpe_tokenizer():
    counts = {character: PROSE.count(character) for character in set(PROSE)}
    return bpe.train([PROSE], vocab_size=400, characters=counts, digits=1, longest_token=8)


def sentencepiece_bpe(**options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(PROSE.splitlines()),
        model_writer=model,
        byte_fallback=True,
        minloglevel=2,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        character_coverage=1.0,
        **{"model_type": "bpe", "vocab_size": 340} | options,
    )
    return SentencePieceTokenizer(sentencepiece_file.read(model.getvalue(), "trained"))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("version", [0, 1])
def test_float_files_give_the_logits_and_greedy_text_of_run_c(tmp_path, version, tied):
    model = tiny(tied=tied)
    assert not [
        note for note in llama2c.write(foreign(model), tmp_path / "out", version=version) if "epsilon" in note
    ]
    engine = Llama2C(tmp_path / "out", dummy_space=False)
    ids = [1, *engine.tokenize(TEXT)]
    assert ids[1:] == CHARACTERS.encode(TEXT)
    ours = logits(model, ids)
    assert ours.std() > 0.5
    assert np.abs(engine.logits(ids) - ours).max() < 1e-4
    greedy = list(ids[:8])
    while len(greedy) < 40:
        greedy.append(int(logits(model, greedy)[-1].argmax()))
    assert engine.greedy(ids[:8], 32) == greedy[8:]


@pytest.mark.parametrize("version", [0, 1])
def test_float_files_come_back_bit_for_bit(tmp_path, version):
    model = tiny(tied=False)
    llama2c.write(foreign(model), tmp_path / "out", version=version)
    back = llama2c.read(tmp_path / "out")
    assert (back.config.norm, back.config.attention) == (model.config.norm, model.config.attention)
    assert back.weights.keys() == model.state_dict().keys()
    assert all(torch.equal(back.weights[name], weight) for name, weight in model.state_dict().items())
    assert isinstance(back.tokenizer, CharacterTokenizer)
    assert back.tokenizer.characters == CHARACTERS.characters


def test_eight_bit_files_differ_by_the_rounding_of_weights_and_activations(tmp_path):
    model = tiny(intermediate_size=96)  # 96 is no multiple of 64: the groups shrink to 32
    llama2c.write(foreign(model), tmp_path / "out", version=2)
    engine, back = Llama2C(tmp_path / "out"), llama2c.read(tmp_path / "out")
    assert int.from_bytes((tmp_path / "out/model.bin").read_bytes()[37:41], "little") == 32
    ids = [1, *CHARACTERS.encode(TEXT)]
    ours, dequantised = logits(model, ids), tiny(intermediate_size=96)
    dequantised.load_state_dict(dict(back.weights))
    step = model.embedding.weight.abs().max().item() / 127
    assert 0 < (back.weights["embedding.weight"] - model.embedding.weight).abs().max() <= 0.51 * step
    assert 0 < np.abs(logits(dequantised, ids) - ours).max() < 0.2 * ours.std()
    assert np.abs(engine.logits(ids) - ours).max() < 0.4 * ours.std()


def test_the_header_and_tables_of_version_0_are_those_of_the_format(tmp_path):
    model = tiny(tied=False)
    llama2c.write(foreign(model), tmp_path / "out", version=0)
    raw = (tmp_path / "out/model.bin").read_bytes()
    assert struct.unpack("<7i", raw[:28]) == (64, model.config.mlp.intermediate_size, 2, 4, 2, -280, 64)
    tables = np.frombuffer(raw[-4 * (280 * 64 + 2 * 64 * 8) : -4 * 280 * 64], "<f4").reshape(2, 64, 8)
    angles = np.outer(np.arange(64), 10_000.0 ** (-np.arange(8) / 8))
    assert np.abs(tables - [np.cos(angles), np.sin(angles)]).max() < 1e-5
    query = np.frombuffer(raw[28 + 4 * (280 * 64 + 2 * 64) :][: 4 * 64 * 64], "<f4").reshape(64, 64)
    expected = model.state_dict()["blocks.0.attention.query.weight"].numpy()
    assert np.array_equal(query[:4], expected[[0, 8, 1, 9]])  # channel i beside channel i + 8


def test_another_epsilon_is_told_and_other_architectures_are_refused(tmp_path):
    assert "epsilon" in llama2c.write(foreign(tiny(epsilon=1e-6)), tmp_path / "out")[0]
    other = Transformer(
        qwen3(
            vocab_size=280,
            max_position_embeddings=64,
            num_hidden_layers=1,
            hidden_size=64,
            num_attention_heads=2,
        )
    )
    with pytest.raises(UserError, match="qk_norm") as refusal:
        llama2c.write(foreign(other), tmp_path / "other")
    assert "qk_norm" in (refusal.value.hint or "")
    assert not (tmp_path / "other").exists()


def test_a_byte_level_bpe_cuts_text_in_run_c_as_here():
    tokenizer = bpe_tokenizer()
    vocabulary, notes = tokenizer_bin.vocabulary_of(tokenizer)
    for line in [*PROSE.splitlines()[:1], "有朋自遠方來", "不亦乐乎！", "time and times", "\t \n123"]:
        assert vocabulary.encode(line, dummy_space=False) == tokenizer.encode(line)
    assert any("split" in note for note in notes)


@pytest.mark.parametrize("options", [{}, {"add_dummy_prefix": False}])
def test_a_sentencepiece_bpe_cuts_text_in_run_c_as_here_and_comes_back(tmp_path, options):
    tokenizer = sentencepiece_bpe(**options)
    size = tokenizer.vocab_size + 3  # a model whose matrix is padded
    tokenizer_bin.write(tokenizer, tmp_path / "tokenizer.bin", size)
    vocabulary = Vocabulary.read(tmp_path / "tokenizer.bin", size)
    prefix = tokenizer.space_prefix
    lines = [PROSE.splitlines()[0], "  two  spaces ", "他说：12.5 遍😀", "é\t"]
    for line in lines:
        assert vocabulary.encode(line, dummy_space=prefix) == tokenizer.encode(line), line
    back, _ = tokenizer_bin.beside(tmp_path / "tokenizer.bin", size)
    assert back is not None
    for line in lines if prefix else []:
        assert back.encode(line) == tokenizer.encode(line)


def test_a_unigram_vocabulary_is_refused_with_the_nearest_choice():
    with pytest.raises(UserError, match="unigram") as refusal:
        tokenizer_bin.vocabulary_of(sentencepiece_bpe(model_type="unigram", hard_vocab_limit=False))
    assert "bpe" in (refusal.value.hint or "")


def damaged(raw):
    """Files that are not what they say, by name."""
    header = list(struct.unpack("<7i", raw[:28]))
    for place, value in ((0, -1), (0, 2**31 - 1), (2, 2**31 - 1), (3, 7), (4, 3), (5, 2**30), (6, 0)):
        yield (
            f"size {place}={value}",
            struct.pack("<7i", *header[:place], value, *header[place + 1 :]) + raw[28:],
        )
    yield "cut short", raw[:-5]
    yield "longer", raw + b"\0\0\0\0"
    yield "nearly nothing", raw[:20]
    yield "nothing", b""
    yield "unknown version", struct.pack("<Ii", 0x616B3432, 9) + raw
    yield "pickle", b"PK\x03\x04" + raw
    yield "older pickle", b"\x80\x02}q\x00" + raw


def test_damaged_files_are_refused(tmp_path):
    llama2c.write(foreign(tiny()), tmp_path / "out")
    raw = (tmp_path / "out/model.bin").read_bytes()
    for name, content in damaged(raw):
        (tmp_path / "bad.bin").write_bytes(content)
        with pytest.raises(UserError) as refusal:
            llama2c.read(tmp_path / "bad.bin")
        assert "bad.bin" in str(refusal.value), name


def test_a_width_whose_bytes_look_like_a_pickle_is_read(tmp_path):
    config = llama(
        vocab_size=280,
        max_position_embeddings=8,
        num_hidden_layers=1,
        hidden_size=640,
        num_attention_heads=4,
        intermediate_size=8,
        tie_word_embeddings=False,
    )
    model = Transformer(config)
    llama2c.write(foreign(model), tmp_path / "out")
    assert (tmp_path / "out/model.bin").read_bytes()[:4] == b"\x80\x02\0\0"
    assert kind_of(tmp_path / "out/model.bin") == "llama2c"
    back = llama2c.read(tmp_path / "out")
    assert torch.equal(back.weights["head.weight"], model.state_dict()["head.weight"])


def test_a_pickle_is_refused_with_what_to_read_instead(tmp_path):
    (tmp_path / "ckpt.pt").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(UserError, match=r"pickle(.|\n)*model\.bin"):
        llama2c.read(tmp_path / "ckpt.pt")


def test_weights_and_scores_that_are_no_numbers_are_refused(tmp_path):
    llama2c.write(foreign(tiny()), tmp_path / "out", version=2)
    raw = bytearray((tmp_path / "out/model.bin").read_bytes())
    raw[-4:] = np.float32("nan").tobytes()  # the last scale
    (tmp_path / "nan.bin").write_bytes(raw)
    with pytest.raises(UserError, match="not finite"):
        dict(llama2c.read(tmp_path / "nan.bin").weights)
    vocabulary = (tmp_path / "out/tokenizer.bin").read_bytes()
    infinite = b"\1\0\0\0" + np.float32("inf").tobytes() + vocabulary[8:]
    endless = vocabulary[:8] + b"\xff" * 4 + vocabulary[12:]
    for content in (infinite, endless, vocabulary[:50], vocabulary + b"x"):
        (tmp_path / "bad.bin").write_bytes(content)
        with pytest.raises(UserError, match=r"bad\.bin"):
            Vocabulary.read(tmp_path / "bad.bin", 280)
