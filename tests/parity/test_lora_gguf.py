"""Adapters on GGUF bases: packed here, run by the real llama.cpp there."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from congling.interop import adapters as adapter_formats
from congling.interop.engines.llama_cpp import LlamaCpp
from congling.interop.foreign import ForeignModel
from congling.interop.gguf import model as gguf_model
from congling.interop.gguf.file import GGUFFile
from congling.interop.gguf.packed import load_packed
from congling.model.config import ModelConfig
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from congling.quant import library
from congling.train.objectives.next_token import next_token
from congling.transform import lora
from congling.transform.adapter import Adapter
from congling.transform.config import AdapterConfig

FAMILY_NAMES = ("llama", "mistral", "qwen2", "qwen3", "gpt2", "baichuan", "olmo2", "glm4")


def sizes(family: str, **changes: object) -> ModelConfig:
    base = {"vocab_size": 96, "max_position_embeddings": 64, "num_hidden_layers": 2, "hidden_size": 256}
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


# --- adapters beside the real engine

TEXT_IDS = torch.randint(3, 96, (1, 40), generator=torch.Generator().manual_seed(1))


def random_adapter(config: ModelConfig, seed: int) -> Adapter:
    """Factors on every matrix of the blocks, large enough to change logits a good deal."""
    model = Transformer(config)
    lora.attach(model, AdapterConfig(r=4, lora_alpha=6))
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            size = parameter.shape[-1] ** -0.5 if parameter.shape[0] == 4 else 0.1
            parameter.data = torch.randn(parameter.shape, generator=generator) * size
    return lora.adapter_of(model)


def our_logits(path: Path, mix: list[tuple[Adapter, float]]) -> np.ndarray:
    model = load_packed(path)
    lora.apply(model, mix)
    with torch.inference_mode():
        return model.logits(model(TEXT_IDS))[0].numpy()


CASES = [[(0, s)] for s in (0.0, 0.4, 1.0, 1.5)] + [[(0, 0.4), (1, 0.8)], [(0, 1.0), (1, -0.5)]]
"""Which adapters, at which strengths."""


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_adapters_act_as_in_llama_cpp(family: str, tmp_path: Path):
    """On a Q8_0 base, alone and two together: equal to llama.cpp where it computes in float32.

    On the Q8_0 file itself llama.cpp also rounds what goes into a product to 8 bits. How far that alone takes
    it, it shows by its distance to itself on the same weights in F32; ours is no farther.
    """
    pytest.importorskip("xllamacpp")
    config, packed, plain = sizes(family), tmp_path / "q8.gguf", tmp_path / "f32.gguf"
    gguf_model.write(random_base(config), packed, type="Q8_0")
    gguf_model.write(gguf_model.read(packed), plain, type="F32")
    adapters = [random_adapter(config, seed) for seed in (1, 2)]
    files = [tmp_path / f"{i}.gguf" for i in range(2)]
    for adapter, file in zip(adapters, files, strict=True):
        adapter_formats.write(adapter, config, "gguf-lora", file)
    base = our_logits(packed, [])
    with LlamaCpp(packed, context=64) as rounding, LlamaCpp(plain, context=64) as exact:
        for case in CASES:
            found = []
            for engine in (rounding, exact):
                engine.set_adapters([(files[i], s) for i, s in case])
                found.append(engine.logits(TEXT_IDS[0].tolist()))
            ours = our_logits(packed, [(adapters[i], s) for i, s in case])
            assert case == [(0, 0.0)] or np.abs(ours - base).max() > 0.3  # the adapters do something
            # ggml looks GELU up in a table of 16-bit values, which shows without any adapter.
            assert np.abs(ours - found[1]).max() <= (3e-3 if family == "gpt2" else 1e-4), case
            own = np.abs(found[0] - found[1])
            apart = np.abs(ours - found[0])
            assert apart.mean() <= 1.05 * own.mean() and apart.max() <= 1.2 * own.max(), case


# --- training on two bits


def chain(changed: int, length: int, seed: int) -> torch.Tensor:
    """Ids in which each has four likely successors: others than in the base text for ``changed`` of them."""
    table = np.random.default_rng(0).integers(3, 96, (96, 4))
    table[:changed] = np.random.default_rng(1).integers(3, 96, (changed, 4))
    draw, ids = np.random.default_rng(seed), [3]
    for choice in draw.choice(4, size=length, p=(0.6, 0.25, 0.1, 0.05)):
        ids.append(int(table[ids[-1], choice]))
    return torch.tensor(ids[1:])


def trained(model: Transformer, ids: torch.Tensor, steps: int, rate: float) -> None:
    """Some steps of AdamW on windows of 64."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    windows = ids[: len(ids) // 65 * 65].view(-1, 65)
    for step in range(steps):
        rows = windows[torch.arange(step * 8, step * 8 + 8) % len(windows)]
        batch = SimpleNamespace(
            tokens=rows[:, :-1],
            targets=rows[:, 1:],
            weights=None,
            positions=None,
            documents=None,
            count=float(rows[:, 1:].numel()),
            uncounted=None,
        )
        (next_token(model, batch).total / rows[:, 1:].numel()).backward()
        optimizer.step()
        optimizer.zero_grad()


def held_out_loss(logits: Callable[[list[int]], np.ndarray], ids: torch.Tensor) -> float:
    """Nats a token over windows of 64."""
    nats = []
    for window in ids.view(-1, 64).tolist():
        scores = torch.from_numpy(logits(window)).double().log_softmax(-1)
        nats += [-float(scores[i, window[i + 1]]) for i in range(63)]
    return float(np.mean(nats))


def test_training_on_a_base_of_two_bits_helps_in_llama_cpp_by_as_much(tmp_path: Path):
    pytest.importorskip("xllamacpp")
    config, path = sizes("llama"), tmp_path / "q2.gguf"
    base = Transformer(config)
    trained(base, chain(0, 20_000, seed=2), steps=25, rate=3e-3)
    gguf_model.write(ForeignModel(config, base.state_dict()), path, type="Q2_K")
    kinds = {
        info.type for name, info in GGUFFile.open(path).tensors.items() if name.endswith("ffn_up.weight")
    }
    assert kinds == {"Q2_K"}
    model, held_out = load_packed(path), chain(48, 64 * 12, seed=4)

    def ours(ids: list[int]) -> np.ndarray:
        with torch.inference_mode():
            return model.logits(model(torch.tensor([ids])))[0].numpy()

    before = held_out_loss(ours, held_out)
    lora.attach(model, AdapterConfig(r=8))
    trained(model, chain(48, 12_000, seed=3), steps=12, rate=5e-3)
    gain = before - held_out_loss(ours, held_out)
    assert gain > 0.3
    adapter = tmp_path / "adapter.gguf"
    adapter_formats.write(lora.adapter_of(model), config, "gguf-lora", adapter)
    with LlamaCpp(path, context=64) as engine:
        there = held_out_loss(engine.logits, held_out)
        engine.set_adapters([(adapter, 1.0)])
        assert there - held_out_loss(engine.logits, held_out) == pytest.approx(gain, rel=0.02)
