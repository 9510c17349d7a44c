"""A whole folder, tokenizer included: AutoTokenizer gives our ids, and all of it comes back."""

import json
from pathlib import Path

import pytest
import torch

from congling.core import artifact
from congling.core.errors import UserError
from congling.evals.conversion.parity import TEXT, logits_of
from congling.evals.conversion.provoking import TEXTS
from congling.interop.engines.transformers import TransformersEngine
from congling.interop.foreign import ForeignModel
from congling.interop.hf.model import read, write
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from congling.tokenizer import store
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.config import TokenizerConfig
from congling.tokenizer.training import train

pytest.importorskip("transformers", reason="AutoTokenizer comes with congling[hf]")


@pytest.fixture(scope="module", params=["bpe", "unigram", "character"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer") / request.param
    config = TokenizerConfig(kind=request.param, vocab_size=420)
    train(config, lambda: iter(TEXT.splitlines() * 4), folder)
    return store.load(folder)


def model(tokenizer: Tokenizer, **facts: object) -> ForeignModel:
    config = FAMILIES["llama"](
        vocab_size=tokenizer.vocab_size, max_position_embeddings=64, num_hidden_layers=1, hidden_size=64
    )
    return ForeignModel(config, Transformer(config).state_dict(), tokenizer, facts)


def test_ids_roles_and_stops_are_ours(tokenizer: Tokenizer, tmp_path: Path):
    write(model(tokenizer, name="tiny"), tmp_path / "hf")
    engine = TransformersEngine(tmp_path / "hf")
    for line in TEXT.splitlines():
        assert engine.tokenize(line) == tokenizer.encode(line)
    generation = json.loads((tmp_path / "hf" / "generation_config.json").read_text())
    assert set(generation["eos_token_id"]) == tokenizer.stop_ids
    config = engine._model.config
    assert (config.bos_token_id, config.eos_token_id) == (tokenizer.roles.bos, tokenizer.eos_id)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gpt2", "mistral"])
def test_texts_that_provoke_have_our_ids(tokenizer: Tokenizer, tmp_path: Path, family: str):
    """Of the type qwen2 transformers loads a tokenizer of its own: that type is written for Qwen's alone."""
    sizes = (
        {"num_attention_heads": 4, "num_key_value_heads": 2}
        if family != "gpt2"
        else {"num_attention_heads": 4}
    )
    config = FAMILIES[family](
        vocab_size=tokenizer.vocab_size,
        max_position_embeddings=64,
        num_hidden_layers=1,
        hidden_size=64,
        **sizes,
    )
    built = Transformer(config)
    notes = write(ForeignModel(config, built.state_dict(), tokenizer), tmp_path / "hf")
    engine = TransformersEngine(tmp_path / "hf")
    unlike = [text for text in TEXTS if engine.tokenize(text) != tokenizer.encode(text)]
    assert unlike == []
    assert ("LlamaForCausalLM" in " ".join(notes)) == (family == "qwen2")
    ids = tokenizer.encode("从零开始")[:20]
    assert abs(engine.logits(ids) - logits_of(built.eval(), ids)).max() < 1e-4


@pytest.mark.parametrize("chat", [True, False])
def test_a_folder_of_ours_comes_back_as_it_was(tokenizer: Tokenizer, tmp_path: Path, chat: bool):
    write(model(tokenizer, chat=chat), tmp_path / "hf")
    back = read(tmp_path / "hf")
    assert back.facts["chat"] is chat and back.tokenizer is not None
    assert back.tokenizer.encode(TEXT) == tokenizer.encode(TEXT)
    assert back.tokenizer.roles == tokenizer.roles
    assert back.tokenizer.chat_template == tokenizer.chat_template
    with artifact.writing(tmp_path / "tokenizer", "tokenizer") as folder:
        store.save(back.tokenizer, folder)
    assert store.load(tmp_path / "tokenizer").encode(TEXT) == tokenizer.encode(TEXT)


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral"])
def test_each_tensor_is_made_once(tmp_path: Path, family: str):
    class Counted(dict[str, torch.Tensor]):
        def __getitem__(self, name: str) -> torch.Tensor:
            asked.append(name)
            return super().__getitem__(name)

    asked: list[str] = []
    config = FAMILIES[family](vocab_size=320, max_position_embeddings=64, num_hidden_layers=2, hidden_size=64)
    weights = Counted(Transformer(config).state_dict())
    write(ForeignModel(config, weights), tmp_path / "hf")
    assert sorted(asked) == sorted(weights)
    back = read(tmp_path / "hf")
    assert all(torch.equal(back.weights[name], tensor) for name, tensor in weights.items())


def test_more_ids_than_rows_are_refused(tokenizer: Tokenizer, tmp_path: Path):
    write(model(tokenizer), tmp_path / "hf")
    small = FAMILIES["llama"](
        vocab_size=tokenizer.vocab_size - 1, max_position_embeddings=64, num_hidden_layers=1, hidden_size=64
    )
    write(ForeignModel(small, Transformer(small).state_dict()), tmp_path / "small")
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "small" / name).replace(tmp_path / "hf" / name)
    with pytest.raises(UserError, match="more ids"):
        read(tmp_path / "hf")


def test_an_engine_refuses_a_folder_it_cannot_load(tmp_path: Path):
    with pytest.raises(UserError, match="does not load"):
        TransformersEngine(tmp_path)


def test_the_engine_continues_as_a_reading_of_the_whole_would(tokenizer: Tokenizer, tmp_path: Path):
    write(model(tokenizer), tmp_path / "hf")
    engine, ids = TransformersEngine(tmp_path / "hf"), [5, 9, 2]
    for token in engine.greedy(ids, 12):
        assert token == int(torch.from_numpy(engine.logits(ids)[-1]).argmax())
        ids.append(token)
