"""Stored models come back bit for bit, and damaged ones are refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from congling.core.errors import UserError
from congling.model.checkpoint import load_model, save_model
from congling.model.counts import parameters
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer

SIZES: dict[str, Any] = {
    "vocab_size": 61,
    "max_position_embeddings": 32,
    "num_hidden_layers": 2,
    "hidden_size": 64,
}


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    save_model(Transformer(FAMILIES["qwen3"](**SIZES)), tmp_path)
    return tmp_path


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_comes_back_bit_for_bit(family: str, tied: bool, tmp_path: Path):
    model = Transformer(FAMILIES[family](**SIZES, tie_word_embeddings=tied))
    model.initialise(7)
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert again.config == model.config and not again.training
    state = again.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def change_weights(folder: Path, change: Any) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def change_config(folder: Path, **changes: Any) -> None:
    values = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(values | changes))


def cut(folder: Path, size: int) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:size])


DAMAGE: dict[str, tuple[Any, str]] = {
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
    "no configuration": (lambda folder: (folder / "model.json").unlink(), "model.json"),
    "weights cut short": (lambda folder: cut(folder, 50_000), "safetensors"),
    "header cut short": (lambda folder: cut(folder, 20), "safetensors"),
    "empty weights": (lambda folder: cut(folder, 0), "safetensors"),
    "huge header": (lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 64), "safetensors"),
    "no JSON": (lambda folder: (folder / "model.json").write_text("{"), "JSON"),
    "deep JSON": (lambda folder: (folder / "model.json").write_text("[" * 100_000), "JSON"),
    "a list": (lambda folder: (folder / "model.json").write_text("[]"), "object"),
    "unknown key": (lambda folder: change_config(folder, hiden_size=64), "did you mean .hidden_size"),
    "endless layers": (lambda folder: change_config(folder, num_hidden_layers=10**12), "more layers"),
    "endless width": (lambda folder: change_config(folder, hidden_size=2**20), "wrong shape"),
    "a tensor lost": (lambda folder: change_weights(folder, lambda t: t.pop("norm.weight")), "norm.weight"),
    "a tensor more": (lambda folder: change_weights(folder, lambda t: t.update(x=torch.ones(1))), "unknown"),
    "another shape": (
        lambda folder: change_weights(folder, lambda t: t.update({"norm.weight": torch.ones(65)})), "65",
    ),
    "whole numbers": (
        lambda folder: change_weights(folder, lambda t: t.update({"norm.weight": torch.ones(64).long()})),
        "I64",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named(stored: Path, damage: str):
    harm, message = DAMAGE[damage]
    harm(stored)
    with pytest.raises(UserError, match=message):
        load_model(stored)


def test_half_precision_weights_load(stored: Path):
    change_weights(stored, lambda tensors: tensors.update({k: v.bfloat16() for k, v in tensors.items()}))
    assert load_model(stored).embedding.weight.dtype == torch.float32


def test_a_claimed_context_takes_no_memory(stored: Path):
    change_config(stored, max_position_embeddings=10**12)
    model = load_model(stored)
    held = [*model.parameters(), *model.buffers()]
    assert sum(tensor.numel() for tensor in held) == parameters(model.config)
    tokens = torch.arange(5)[None]
    assert model(tokens).isfinite().all()
