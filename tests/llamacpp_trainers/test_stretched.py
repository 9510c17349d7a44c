"""Bases with stretched positions in the trainers of llama.cpp: used as they are, or refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from congling.core.errors import UserError
from congling.interop.foreign import ForeignModel
from congling.interop.gguf.file import GGUFFile
from congling.interop.gguf.model import write
from congling.interop.gguf.packed import load_packed
from congling.llamacpp_trainers.adapter_options import FinetuneOptions
from congling.llamacpp_trainers.finetune_model import overridden
from congling.llamacpp_trainers.scratch_model import stored_config
from congling.model.families import llama
from congling.model.transformer import Transformer

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}


def file_of(folder: Path, scaling: dict[str, Any] | None) -> GGUFFile:
    config = llama(
        vocab_size=300,
        max_position_embeddings=256,
        num_hidden_layers=1,
        hidden_size=64,
        num_attention_heads=2,
        tie_word_embeddings=False,
    )
    torch.manual_seed(1)
    model = Transformer(config.replace(positions={"rope_scaling": scaling}))
    write(ForeignModel(model.config, model.state_dict()), folder / "base.gguf")
    return GGUFFile.open(folder / "base.gguf")


def test_finetune_keeps_a_stretched_base_and_does_not_undo_it(tmp_path):
    model = load_packed(file_of(tmp_path, YARN), context=128)
    before = model.config.positions
    overridden(model, FinetuneOptions(), 128)
    assert model.config.positions == before and before.rope_scaling is not None
    for given in ({"rope_freq_scale": 0.5}, {"rope_freq_base": 2e4}):
        with pytest.raises(UserError, match=r"yarn × 4(.|\n)*leave them out"):
            overridden(model, FinetuneOptions(**given), 128)
    linear = tmp_path / "linear"
    linear.mkdir()
    model = load_packed(file_of(linear, {"rope_type": "linear", "factor": 2.0}), context=128)
    overridden(model, FinetuneOptions(rope_freq_scale=0.25), 128)
    assert model.config.positions.rope_scaling.factor == 4


def test_train_text_from_scratch_does_not_go_on_with_what_its_checkpoints_cannot_say(tmp_path):
    with pytest.raises(UserError, match=r"yarn × 4(.|\n)*congling import"):
        stored_config(file_of(tmp_path, YARN), None)
