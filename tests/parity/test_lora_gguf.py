"""Adapters on GGUF bases: packed here, run by the real llama.cpp there."""

from pathlib import Path

import pytest
import torch

from congling.interop.foreign import ForeignModel
from congling.interop.gguf import model as gguf_model
from congling.interop.gguf.packed import load_packed
from congling.model.config import ModelConfig
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from congling.quant import library

FAMILY_NAMES = ("llama", "mistral", "qwen2", "qwen3", "gpt2", "baichuan")


def sizes(family: str, **changes: object) -> ModelConfig:
    base = {"vocab_size": 96, "context": 64, "layers": 2, "width": 256}
    return FAMILIES[family](**(base | changes))


def random_base(config: ModelConfig, seed: int = 0) -> ForeignModel:
    """Weights of normal size: logits that differ."""
    model = Transformer(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            size = 0.05 if parameter.dim() == 1 else parameter.shape[-1] ** -0.5
            parameter.copy_(noise * size + ("norm" in name and name.endswith("weight")))
    return ForeignModel(config, model.state_dict())


@pytest.mark.parametrize("family", FAMILY_NAMES)
@pytest.mark.parametrize("type", ["F32", "Q8_0", "Q4_K"])
def test_a_packed_model_computes_what_the_decoded_file_does(family: str, type: str, tmp_path: Path):
    if type == "Q4_K" and not library.available():
        pytest.skip("encoded by llama.cpp's kernels, which are not installed")
    path = tmp_path / "base.gguf"
    gguf_model.write(random_base(sizes(family)), path, type="Q4_K_M" if type == "Q4_K" else type)
    read = gguf_model.read(path)
    dense = Transformer(read.config).eval()
    dense.load_state_dict(dict(read.weights))
    packed = load_packed(path)
    tokens = torch.randint(0, 96, (2, 20))
    ours, theirs = packed.logits(packed(tokens)), dense.logits(dense(tokens))
    assert theirs.std() > 0.1
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-3)
    short = load_packed(path, context=32)
    torch.testing.assert_close(short.logits(short(tokens)), ours)
