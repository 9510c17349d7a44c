"""Models of Ernie 4.5, HunYuan, SmolLM3, Granite, MiniCPM, InternLM2 and MiniMind: read, they compute what
transformers computes, and so does what is written of them, there and in llama.cpp.
"""

# B batch, T time, V vocabulary

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from congling.core.errors import UserError
from congling.interop.assembly import transformer
from congling.interop.engines.llama_cpp import LlamaCpp
from congling.interop.engines.transformers import TransformersEngine
from congling.interop.foreign import ForeignModel
from congling.interop.gguf import model as gguf_model
from congling.interop.gguf.file import GGUFFile
from congling.interop.hf import model as hf_model
from congling.interop.targets import obstacles
from congling.model import families
from congling.model.cache import KVCache
from congling.model.config import ModelConfig
from congling.model.transformer import Transformer

pytest.importorskip("transformers", reason="the originals come with congling[hf]")
pytest.importorskip("xllamacpp")
from support.foreign_folders import MAKERS
from support.gguf_models import foreign, logits, model_of

V = 97
TOLERANCE = 2e-5


class Made(NamedTuple):
    case: str
    folder: Path
    original: nn.Module
    read: ForeignModel
    ours: Transformer
    tokens: Tensor


@pytest.fixture(scope="module", params=MAKERS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("foreign") / "model"
    original = MAKERS[request.param][0](folder, V)
    found = hf_model.read(folder)
    tokens = torch.randint(0, V, (2, 24), generator=torch.Generator().manual_seed(7))
    return Made(request.param, folder, original, found, transformer(found).eval(), tokens)


def close(found: Tensor, expected: Tensor) -> None:
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=TOLERANCE * max(1.0, expected.std().item()), rtol=0)


@torch.inference_mode()
def test_a_folder_computes_what_its_class_does(made: Made) -> None:
    expected = made.original(made.tokens).logits
    close(made.ours.logits(made.ours(made.tokens)), expected)
    cache = KVCache(made.ours.config, 2, 24)
    steps = [made.tokens[:, :9], made.tokens[:, 9:14], *made.tokens[:, 14:].split(1, dim=1)]
    close(torch.cat([made.ours.logits(made.ours(step, cache=cache)) for step in steps], dim=1), expected)


@torch.inference_mode()
def test_rows_padded_on_the_left_agree(made: Made) -> None:
    padding = torch.tensor([7, 0])
    visible = (torch.arange(24) >= padding[:, None]).long()
    positions = (visible.cumsum(-1) - 1).clamp_min(0)
    expected = made.original(made.tokens, attention_mask=visible, position_ids=positions).logits
    cache = KVCache(made.ours.config, 2, 24, start=padding)
    parts = made.tokens.split(12, dim=1)
    found = torch.cat([made.ours.logits(made.ours(part, cache=cache)) for part in parts], dim=1)
    close(found[visible.bool()], expected[visible.bool()])


@torch.inference_mode()
def test_what_is_written_is_computed_and_read_as_it_was(made: Made, tmp_path: Path) -> None:
    _, class_name, architecture = MAKERS[made.case]
    expected = made.original(made.tokens[:1]).logits[0]
    hf_model.write(made.read, tmp_path / "hf")
    engine = TransformersEngine(tmp_path / "hf")
    assert type(engine._model).__name__ == class_name
    close(torch.from_numpy(engine.logits(made.tokens[0].tolist())), expected)
    assert same(hf_model.read(tmp_path / "hf"), made.read)
    file = tmp_path / "model.gguf"
    if not architecture:
        assert obstacles(made.read.config, None, "gguf")
        with pytest.raises(UserError, match=r"llama\.cpp has"):
            gguf_model.write(made.read, file)
        return
    gguf_model.write(made.read, file)
    assert GGUFFile.open(file).text("general.architecture") == architecture
    with LlamaCpp(file, context=64) as llama:
        close(torch.from_numpy(llama.logits(made.tokens[0].tolist())), expected)
    assert same(gguf_model.read(file), unstretched_within(made.read))


def unstretched_within(made: ForeignModel) -> ForeignModel:
    """Without a dynamic scaling that begins where the context ends: GGUF has no such kind, nor needs it."""
    if made.config.positions.kind != "rope" or made.config.depends_on_length:
        return made
    scaling = made.config.positions.rope_scaling
    if scaling is None or scaling.rope_type != "dynamic":
        return made
    values = made.config.model_dump()
    values["positions"]["rope_scaling"] = None
    return replace(made, config=ModelConfig.model_validate(values))


def same(found: ForeignModel, expected: ForeignModel) -> bool:
    """Equal weights to the bit, and equal settings but for rounding and what concerns training alone."""
    assert dict(found.weights).keys() == dict(expected.weights).keys()
    assert approximately(found.config.model_dump(), expected.config.model_dump())
    return all(torch.equal(found.weights[name], expected.weights[name]) for name in expected.weights)


def approximately(found: Any, expected: Any) -> bool:
    if isinstance(expected, dict):
        return all(
            approximately(found[key], value)
            for key, value in expected.items()
            if key != "router_aux_loss_coef"
        )
    return found == (pytest.approx(expected, rel=1e-6) if isinstance(expected, float) else expected)


SIZES: dict[str, Any] = {
    "vocab_size": 320,
    "max_position_embeddings": 128,
    "num_hidden_layers": 4,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
LLAMA = families.llama(**SIZES)
THEIR_FILES: dict[str, tuple[str, ModelConfig]] = {
    "ernie": ("ernie4_5", LLAMA),
    "ernie, wide heads": ("ernie4_5", families.llama(**SIZES, head_dim=32)),
    "internlm2": ("internlm2", LLAMA.replace(tie_word_embeddings=False)),
    "minicpm": (
        "minicpm", LLAMA.replace(embedding_multiplier=12.0, residual_multiplier=0.7, logits_scaling=0.25),
    ),
}  # fmt: skip
"""Architectures whose models are exported as another, but whose files are read."""
IDS = torch.randint(0, 320, (48,), generator=torch.Generator().manual_seed(3)).tolist()


def written_as(architecture: str, config: ModelConfig, path: Path, patch: pytest.MonkeyPatch) -> Transformer:
    model = model_of(config)
    with patch.context() as inside:
        inside.setattr(gguf_model, "gguf_architecture", lambda _: architecture)
        gguf_model.write(foreign(model), path)
    return model


@pytest.mark.parametrize("case", THEIR_FILES)
def test_files_of_their_own_architectures(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    architecture, config = THEIR_FILES[case]
    model = written_as(architecture, config, tmp_path / "model.gguf", monkeypatch)
    expected = logits(model, IDS)
    with LlamaCpp(tmp_path / "model.gguf", context=128) as llama:
        assert np.abs(llama.logits(IDS) - expected.numpy()).max() < 1e-4
    found = gguf_model.read(tmp_path / "model.gguf")
    assert torch.allclose(logits(transformer(found), IDS), expected, atol=1e-5)


def test_a_file_of_minicpm_without_its_multipliers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_model, "gguf_architecture", lambda _: "minicpm")
    fields = gguf_model.config_fields
    monkeypatch.setattr(
        gguf_model,
        "config_fields",
        lambda *given: {key: field for key, field in fields(*given).items() if "_scale" not in key},
    )
    gguf_model.write(foreign(model_of(THEIR_FILES["minicpm"][1])), tmp_path / "model.gguf")
    with pytest.raises(UserError, match="without its multipliers"):
        gguf_model.read(tmp_path / "model.gguf")
