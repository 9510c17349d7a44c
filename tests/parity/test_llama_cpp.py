"""Our models in the real llama.cpp: the same logits and the same greedy text for every architecture."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import gelu

from congling.core.errors import UserError
from congling.interop.assembly import transformer
from congling.interop.engines.llama_cpp import LlamaCpp
from congling.interop.gguf import model as gguf_model
from congling.interop.gguf.file import Field, GGUFFile
from congling.interop.gguf_architecture import gguf_architecture
from congling.model import families
from congling.model.config import ModelConfig
from congling.quant import library
from support.gguf_models import CONFIGS, foreign, logits, model_of

pytest.importorskip("xllamacpp")

IDS = torch.randint(0, 320, (48,), generator=torch.Generator().manual_seed(3)).tolist()


def written(name: str, folder: Path, type: str = "F32") -> tuple[torch.nn.Module, Path]:
    model = model_of(CONFIGS[name][1])
    path = folder / "model.gguf"
    gguf_model.write(foreign(model), path, type)
    return model, path


def _gelu(config: ModelConfig) -> bool:
    """Whether llama.cpp looks GELU up in a table of 16 bits."""
    return config.mlp.kind == "plain" or getattr(config.mlp, "hidden_act", "silu") != "silu"


@pytest.mark.parametrize("name", CONFIGS)
def test_the_same_logits_and_greedy_text(name, tmp_path):
    architecture, config = CONFIGS[name]
    assert gguf_architecture(config) == architecture
    model, path = written(name, tmp_path)
    expected = logits(model, IDS).numpy()
    assert expected.std() > 0.1
    with LlamaCpp(path, context=256) as engine:
        assert np.abs(engine.logits(IDS) - expected).max() <= (1e-2 if _gelu(config) else 1e-4)
        text = IDS[:8]
        text += engine.greedy(text, 200)
    # One pass over the finished text says what we would have chosen at each place.
    chosen = logits(model, text).argmax(-1)[7:-1].tolist()
    agree = sum(ours == theirs for ours, theirs in zip(chosen, text[8:], strict=True))
    assert agree == 200


def test_what_is_left_for_gpt2_is_the_16_bit_table_of_gelu(tmp_path):
    """llama.cpp looks GELU up, input and output of 16 bits: with the same rounding little else differs."""
    model, path = written("gpt2", tmp_path)
    with LlamaCpp(path, context=64) as engine:
        theirs = engine.logits(IDS)
    before = np.abs(theirs - logits(model, IDS).numpy()).mean()
    for block in model.blocks:
        block.mlp.activation.forward = lambda x: gelu(x.half().float(), approximate="tanh").half().float()
    assert np.abs(theirs - logits(model, IDS).numpy()).mean() < before / 10


@pytest.mark.parametrize("name", CONFIGS)
def test_reading_back_gives_the_same_bits(name, tmp_path):
    model, path = written(name, tmp_path)
    found = gguf_model.read(path)
    ours = model.state_dict()
    assert all(torch.equal(found.weights[key], ours[key]) for key in ours)
    again = transformer(found)
    assert torch.allclose(logits(again, IDS), logits(model, IDS), atol=1e-5)
    # Zeros and copies that an architecture wants are all that is added.
    extra = set(found.weights) - set(ours)
    assert all(not found.weights[key].any() for key in extra if ".shared." in key)
    assert {key for key in extra if ".shared." not in key} <= {"head.weight"}


def test_the_settings_of_exact_mode_are_found_in_this_build(tmp_path):
    _, path = written("llama", tmp_path)
    with LlamaCpp(path) as exact, LlamaCpp(path, exact=False) as usual:
        near = exact.logits(IDS), usual.logits(IDS)
        assert exact.cache_bytes > 1.8 * usual.cache_bytes
    assert 0 < np.abs(near[0] - near[1]).max() < 0.1
    assert all(hasattr(library.ggml(), name) for name in ("llama_decode", "ggml_quantize_chunk"))
    assert "xllamacpp" in exact.name


ROUNDING = {"F16": 2e-3, "BF16": 0.01, "Q8_0": 0.03, "Q4_0": 0.03, "Q6_K": 0.05, "Q4_K_M": 0.05, "Q2_K": 0.05}
"""Mean difference in parts of the logits' spread. llama.cpp rounds the *activations* beside packed weights
too: to F16, to BF16, to 8 bits in blocks of 32, or of 256 beside k-quants; measured 0.0006, 0.005, 0.017 and
0.025."""


@pytest.mark.parametrize("type", ROUNDING)
def test_a_quantised_file_is_the_same_model_here_and_there(type, tmp_path):
    config = families.llama(
        vocab_size=320,
        max_position_embeddings=128,
        num_hidden_layers=2,
        hidden_size=256,
        num_attention_heads=4,
        intermediate_size=512,
        tie_word_embeddings=False,
    )
    model = model_of(config)
    path = tmp_path / "model.gguf"
    assert gguf_model.write(foreign(model), path, type) == []
    ours = logits(transformer(gguf_model.read(path)), IDS).numpy()
    with LlamaCpp(path) as engine:
        between = np.abs(ours - engine.logits(IDS)).mean() / ours.std()
    lost = np.abs(ours - logits(model, IDS).numpy()).mean() / ours.std()
    assert between < ROUNDING[type]
    assert between < lost


def test_a_short_context_and_odd_ids_are_refused_not_crashed(tmp_path):
    _, path = written("llama", tmp_path)
    with LlamaCpp(path, context=64) as engine:
        with pytest.raises(UserError):
            engine.logits([])
        with pytest.raises(UserError):
            engine.greedy(IDS, 64)
        with pytest.raises(UserError):
            engine.logits([10**6])
        assert engine.logits(IDS).shape == (48, 320)


def test_a_file_llama_cpp_refuses_is_one_error_with_its_words(tmp_path):
    model = model_of(CONFIGS["llama"][1])
    path = tmp_path / "model.gguf"
    gguf_model.write(foreign(model), path, fields={"llama.feed_forward_length": Field("u32", 128)})
    with pytest.raises(UserError, match="refuses"):
        LlamaCpp(path)
    with pytest.raises(UserError, match="wrong shape"):
        gguf_model.read(path)
    assert GGUFFile.open(path).integer("llama.feed_forward_length") == 128


def test_adapters_that_do_not_exist_are_refused_and_free_the_model(tmp_path):
    _, path = written("llama", tmp_path)
    with pytest.raises(UserError, match="adapter"):
        LlamaCpp(path, adapters=[(tmp_path / "none.gguf", 1.0)])
