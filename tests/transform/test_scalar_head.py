"""Scalar heads: written beside the model, read back, refused where damaged or somebody else's."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from congling.core.errors import UserError
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from congling.transform.scalar_head import (
    FILE,
    attach_head,
    load_head,
    save_with_head,
    save_without_head,
)
from support.mutations import mutate


def model(width: int = 32) -> Any:
    return Transformer(
        FAMILIES["llama"](vocab_size=31, max_position_embeddings=8, num_hidden_layers=1, hidden_size=width)
    )


def test_a_head_comes_back_as_it_was(tmp_path: Path):
    one, other = model(), model()
    head = attach_head(one, 3)
    save_with_head(one, tmp_path)
    load_head(other, tmp_path)
    assert torch.equal(other.scalar_head.weight, head.weight)
    assert one.scalar_head is head
    assert torch.equal(attach_head(model(), 3).weight, head.weight)
    assert not torch.equal(attach_head(model(), 4).weight, head.weight)
    assert not attach_head(model()).weight.any()


def test_without_it_the_model_is_like_any_other(tmp_path: Path):
    one = model()
    save_without_head_of(one, tmp_path)
    assert not (tmp_path / FILE).exists() and hasattr(one, "scalar_head")
    with pytest.raises(UserError, match="no reward model"):
        load_head(model(), tmp_path)


def save_without_head_of(one: Any, folder: Path) -> None:
    attach_head(one, 3)
    save_without_head(one, folder)


@pytest.mark.parametrize(("tensors", "reason"), [
    ({"weight": torch.zeros(1, 64)}, "does not fit"),
    ({"weight": torch.zeros(32)}, "does not fit"),
    ({"weight": torch.zeros(2, 32)}, "does not fit"),
    ({"wait": torch.zeros(1, 32)}, "does not fit"),
    ({"weight": torch.zeros(1, 32), "bias": torch.zeros(1)}, "does not fit"),
    ({"weight": torch.full((1, 32), float("nan"))}, "not finite"),
    ({"weight": torch.full((1, 32), float("inf"))}, "not finite"),
])  # fmt: skip
def test_the_head_of_another_model_is_refused(tmp_path: Path, tensors: dict[str, Any], reason: str):
    save_file(tensors, tmp_path / FILE)
    with pytest.raises(UserError, match=reason):
        load_head(model(), tmp_path)


def test_mutants_load_or_give_one_clear_error(tmp_path: Path):
    one = model()
    attach_head(one, 3)
    save_with_head(one, tmp_path)
    whole, refused = (tmp_path / FILE).read_bytes(), 0
    draw = random.Random(1)
    for _ in range(150):
        (tmp_path / FILE).write_bytes(mutate(FILE, whole, draw))
        try:
            load_head(one, tmp_path)
        except UserError as error:
            refused += 1
            assert FILE in str(error)
        assert one.scalar_head.weight.isfinite().all()
    assert refused > 50
