"""What a GGUF file cannot hold of a tokenizer is named, and is what llama.cpp then does otherwise."""

import json
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from congling.core.errors import UserError
from congling.evals.conversion.provoking import TEXTS, texts_for
from congling.interop.engines.llama_cpp import LlamaCpp
from congling.interop.gguf.differences import differences
from congling.interop.gguf.vocabulary import fields
from congling.tokenizer.base import Tokenizer as Ours
from congling.tokenizer.chat.encode import chat_ids
from congling.tokenizer.chat.turns import ENDS_OF_LLAMA_CPP
from congling.tokenizer.imported import read
from congling.tokenizer.imported.hf_json import HuggingFaceTokenizer

from .test_tokenizer_gguf import model_file

pytest.importorskip("xllamacpp")

KNOWN = ("<|eot_id|>", "<|end|>", "<eos>", "<end_of_turn>", "<|eom_id|>")
ODD = ("<stop>", "<halt>", "<over>", "<fin>")
TEMPLATE = "{% for m in messages %}<s>{{ m['content'] }}</s>{% endfor %}"


def byte_level(folder: Path, *added: AddedToken, normaliser: object = None, **files: object) -> Ours:
    """A tokenizer of bytes alone, its special tokens from 256 on."""
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(symbols)}, merges=[]))
    made.normalizer, made.decoder = normaliser, decoders.ByteLevel()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in ("<s>", "</s>")])
    for token in added:
        made.add_tokens([token])
    folder.mkdir()
    made.save(str(folder / "tokenizer.json"))
    for name, content in ({"tokenizer_config": {"eos_token": "</s>"}} | files).items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return read.read(folder)


def metaspace(folder: Path, scheme: str, *added: AddedToken) -> Ours:
    """A BPE of sentencepiece's kind whose spaces come from the pre-tokenizer."""
    texts = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a", "▁b"]
    vocabulary = {text: index for index, text in enumerate(texts)}
    merges = [("▁", "a"), ("▁", "b")]
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)  # type: ignore[arg-type]
    made.decoder = decoders.Sequence([decoders.Metaspace(), decoders.ByteFallback(), decoders.Fuse()])
    made.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<unk>", "<s>", "</s>")])
    for token in added:
        made.add_tokens([token])
    folder.mkdir()
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": "</s>", "chat_template": TEMPLATE})
    )
    return read.read(folder)


@pytest.mark.parametrize("known", [0, 3])
@pytest.mark.parametrize("odd", [0, 1, 2, 4])
def test_llama_cpp_stops_at_every_end_but_those_that_are_named(known: int, odd: int, tmp_path: Path) -> None:
    texts = [*KNOWN[:known], *ODD[:odd]]
    tokens = [AddedToken(text, special=True, normalized=False) for text in texts]
    ends = [257, *range(258, 258 + len(texts))]
    found = byte_level(tmp_path / "hf", *tokens, generation_config={"eos_token_id": ends})
    assert found.stop_ids == set(ends)
    told = " ".join(each.what for each in differences(found))
    with LlamaCpp(model_file(tmp_path / "m.gguf", fields(found)), context=32) as engine:
        for index in ends:
            text = next(text for text, place in found.special.items() if place == index)
            assert engine.ends(index) == (f"{text} ({index})" not in told)
        assert not engine.ends(256) and not engine.ends(65)
    assert bool(told) == (odd == 4) and told.count("(2") == max(0, odd - 2)


def test_every_text_of_the_table_is_an_end_there(tmp_path: Path) -> None:

    for names in (
        {"<|return|>", "<|call|>"},
        ENDS_OF_LLAMA_CPP - {"<|return|>", "<|call|>", "</s>", "<|calls|>"},
    ):
        tokens = [AddedToken(text, special=True, normalized=False) for text in sorted(names)]
        found = byte_level(tmp_path / str(len(names)), *tokens)
        keys = fields(found)
        for key in ("eot", "eom"):
            keys.pop(f"tokenizer.ggml.{key}_token_id", None)
        with LlamaCpp(model_file(tmp_path / f"{len(names)}.gguf", keys), context=32) as engine:
            assert [text for text in names if not engine.ends(found.special[text])] == []


@pytest.mark.parametrize("kind", ["NFC", "NFKC", "Lowercase", "NFD"])
def test_a_normaliser_is_refused_or_named_and_concerns_what_differs(kind: str, tmp_path: Path) -> None:
    found = byte_level(tmp_path / "hf", normaliser=getattr(normalizers, kind)())
    if kind != "NFC":
        with pytest.raises(UserError, match=f"does not normalise.*{kind}"):
            fields(found)
    (named,) = differences(found)
    assert kind in named.what
    keys = fields(found, inexact=True)
    with LlamaCpp(model_file(tmp_path / "m.gguf", keys), context=32) as engine:
        checked = set(texts_for(found, "gguf"))
        for text in (*TEXTS, "e\u0301", "ﬁ"):
            assert (engine.tokenize(text) == found.encode(text)) == (not named.concerns(text)), text
            assert (text in checked) == (not named.concerns(text)) or text not in TEXTS
    assert found.lossless is False


@pytest.mark.parametrize("normalized", [False, True])
def test_a_token_that_is_found_in_the_normalised_text(normalized: bool, tmp_path: Path) -> None:
    """Where normalising leaves it as it is, llama.cpp finds it too; else it is refused."""
    plain, wide = (AddedToken(text, normalized=normalized, special=False) for text in ("<b>", "e\u0301!"))
    found = byte_level(tmp_path / "a", plain, normaliser=normalizers.NFC())
    with LlamaCpp(model_file(tmp_path / "m.gguf", fields(found)), context=32) as engine:
        for text in ("a<b>c", "<b>", "a <b> c", "<b>é"):
            assert engine.tokenize(text) == found.encode(text)
    found = byte_level(tmp_path / "b", wide, normaliser=normalizers.NFC())
    assert (found.encode("xé!") == [*found.encode("x"), 258]) == normalized
    if normalized:
        with pytest.raises(UserError, match="normalized"):
            fields(found)
    else:
        assert fields(found)


@pytest.mark.parametrize("scheme", ["always", "first", "never"])
def test_where_spaces_are_put(scheme: str, tmp_path: Path) -> None:
    """Texts are equal with all three; conversations with two, and the third is named."""
    found = metaspace(tmp_path / "hf", scheme)
    assert isinstance(found, HuggingFaceTokenizer)
    ours = chat_ids(found, [{"role": "user", "content": "a"}, {"role": "user", "content": "b a"}])
    with LlamaCpp(model_file(tmp_path / "m.gguf", fields(found)), context=32) as engine:
        assert [engine.tokenize(text) for text in texts_for(found, "gguf")] == [
            found.encode(text) for text in texts_for(found, "gguf")
        ]
        assert (engine.tokenize(" a") == found.encode(" a")) == (scheme == "never")
        equal = engine.tokenize("<s>a</s><s>b a</s>", special=True) == ours
    assert equal == (scheme != "first")
    told = [each.what for each in differences(found)]
    assert any("prepend_scheme" in what for what in told) == (scheme == "first")
    assert any("Metaspace" in what for what in told) == (scheme != "never")


@pytest.mark.parametrize("scheme", ["always", "first"])
def test_tokens_within_texts_beside_a_space_that_is_put_first(scheme: str, tmp_path: Path) -> None:
    found = metaspace(tmp_path / "hf", scheme, AddedToken("<tool>", special=False, normalized=False))
    with pytest.raises(UserError, match="space would be put after each user-defined piece"):
        fields(found)
    assert fields(metaspace(tmp_path / "b", "never", AddedToken("<tool>", special=False, normalized=False)))
