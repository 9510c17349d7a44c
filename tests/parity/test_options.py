"""No exporter drops an option: a model that has it computes the same in the other program, or is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from congling.core.errors import UserError
from congling.interop.assembly import transformer
from congling.interop.engines.llama2c import Llama2C
from congling.interop.engines.llama_cpp import LlamaCpp
from congling.interop.engines.transformers import TransformersEngine
from congling.interop.formats import read_model, write_model
from congling.interop.targets import obstacles
from congling.model.config import ModelConfig
from congling.model.families import FAMILIES
from support.gguf_models import foreign, logits, model_of

pytest.importorskip("transformers")
pytest.importorskip("xllamacpp")

IDS = torch.randint(0, 320, (40,), generator=torch.Generator().manual_seed(3)).tolist()
SIZES: dict[str, Any] = {
    "vocab_size": 320,
    "max_position_embeddings": 64,
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "norms behind the sublayers": {"norm_placement": "post"},
    "norms before and behind": {"norm_placement": "sandwich"},
    "heads that turn in part": {"positions": {"kind": "rope", "partial_rotary_factor": 0.5}},
    "windows": {"attention": {"sliding_window": 8}},
    "GELU": {"mlp": {"hidden_act": "gelu_pytorch_tanh"}},
    "norms over all heads": {"attention": {"qk_norm": True, "qk_norm_over": "projection"}},
}
ENGINES = {"gguf": LlamaCpp, "hf": TransformersEngine, "llama2c": Llama2C}


def changed(family: str, option: str) -> ModelConfig:
    return FAMILIES[family](**SIZES).replace(norm={"eps": 1e-5}).replace(**OPTIONS[option])


def test_exact_gelu_goes_to_transformers_alone(tmp_path: Path):
    config = FAMILIES["gpt2"](**SIZES).replace(mlp={"hidden_act": "gelu"})
    model = model_of(config)
    write_model(foreign(model), "hf", tmp_path / "hf")
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["activation_function"] == "gelu"
    expected = logits(model, IDS).numpy()
    assert abs(TransformersEngine(tmp_path / "hf").logits(IDS) - expected).max() < 2e-5
    again = read_model(tmp_path / "hf")
    assert again.config.mlp == config.mlp
    assert torch.equal(logits(transformer(again), IDS), logits(model, IDS))
    other = model_of(config.replace(mlp={"hidden_act": "gelu_new"}))
    assert (logits(other, IDS) - logits(model, IDS)).abs().max() > 1e-4  # or nothing above were shown
    with pytest.raises(UserError, match="tanh form"):
        write_model(foreign(model), "gguf", tmp_path / "gguf")


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_computed_or_refused(family: str, option: str, tmp_path: Path):
    if option == "GELU" and FAMILIES[family](**SIZES).mlp.kind != "gated":
        return  # only a gated MLP has the choice
    if option == "windows" and FAMILIES[family](**SIZES).positions.kind != "rope":
        with pytest.raises(UserError, match="needs rotary positions"):
            changed(family, option)
        return
    config = changed(family, option)
    model = model_of(config)
    expected = logits(model, IDS).numpy()
    gelu = config.mlp.kind == "plain" or getattr(config.mlp, "hidden_act", "silu") != "silu"
    tolerance = 1e-2 if gelu else 1e-4  # llama.cpp's GELU is a table of 16 bits
    for target, engine in ENGINES.items():
        path = tmp_path / target
        stands = obstacles(config, None, target)  # type: ignore[arg-type]
        try:
            write_model(foreign(model), target, path)  # type: ignore[arg-type]
        except UserError:
            assert stands and not path.exists()
            continue
        assert not stands
        assert abs(engine(path).logits(IDS) - expected).max() < tolerance, target
