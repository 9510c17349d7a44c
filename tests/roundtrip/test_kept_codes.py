"""A checkpoint in few bits to GGUF and back: the codes it has, whatever the family does with its matrices."""

from pathlib import Path
from typing import Any

import pytest
import torch

from congling.core.errors import UserError
from congling.interop.foreign import ForeignModel
from congling.interop.gguf import model as gguf_model
from congling.interop.hf import model as hf_model
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from congling.quant.apply import quantise
from congling.quant.config import GptqConfig, QuantConfig
from congling.quant.stored import open_dense, open_layers, save_quantised

CASES: dict[str, tuple[str, dict[str, Any], dict[str, int]]] = {
    "permuted rows": ("llama", {"sym": True, "group_size": 64}, {"Q4_0": 7}),
    "fused queries": ("gpt2", {"bits": 8, "sym": True, "group_size": -1}, {"Q8_0": 4}),
    "fused gate": ("glm4", {"sym": False}, {"Q5_0": 6}),
    "stacked experts": ("qwen3-moe", {"bits": 3}, {"Q4_0": 7}),
    "zeros in 8 bits": ("llama", {"bits": 8}, {}),
}


def quantised(folder: Path, family: str, config: QuantConfig) -> ForeignModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 1}
    sizes |= {"moe_intermediate_size": 64} if "moe" in family else {}
    sizes |= {"intermediate_size": 128} if family in ("llama", "glm4") else {}
    model = Transformer(FAMILIES[family](vocab_size=64, max_position_embeddings=32, **sizes))
    for parameter in model.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    quantise(model, config, [(torch.randint(0, 64, (32, 32)), None, None)])
    save_quantised(model, folder, {})
    dense, weights = open_dense(folder)
    return ForeignModel(dense, weights, None, {}, open_layers(folder))


@pytest.mark.parametrize("case", CASES)
def test_weights_that_are_read_are_those_of_the_checkpoint_to_the_bit(case: str, tmp_path: Path):
    family, settings, kept = CASES[case]
    model = quantised(tmp_path, family, GptqConfig(**settings))
    notes = " ".join(gguf_model.write(model, tmp_path / "m.gguf", "COPY"))
    read = gguf_model.read(tmp_path / "m.gguf")
    types = dict(read.facts["types"])
    assert types.pop("F32") > 0 and types == kept
    assert ("no type holds these codes exactly" in notes) == (not kept)
    for name, weight in model.weights.items():
        assert torch.equal(read.weights[name], weight), name


def test_a_folder_of_gptq_goes_to_gguf_with_its_codes(tmp_path: Path):
    model = quantised(tmp_path, "llama", GptqConfig(sym=True))
    hf_model.write(model, tmp_path / "hf", "GPTQ")
    gguf_model.write(hf_model.read(tmp_path / "hf"), tmp_path / "m.gguf", "COPY")
    read = gguf_model.read(tmp_path / "m.gguf")
    assert read.facts["types"]["Q4_0"] == 7
    assert all(torch.equal(read.weights[name], weight) for name, weight in model.weights.items())


def test_other_types_encode_anew_and_say_so(tmp_path: Path):
    model = quantised(tmp_path, "llama", GptqConfig())
    told = {
        type: " ".join(gguf_model.write(model, tmp_path / f"{type}.gguf", type))
        for type in ("Q4_0", "Q4_1", "Q8_0", "F32", "F16")
    }
    assert "encoded anew" in told["Q4_0"] and "codes as they are" not in told["Q4_0"]
    assert "codes as they are" in told["Q4_1"] and "minima are rounded to float16" in told["Q4_1"]
    assert "codes as they are" in told["Q8_0"] and "rounded" not in told["Q8_0"]
    assert not told["F32"] and "encoded anew" in told["F16"]
    exact = gguf_model.read(tmp_path / "Q8_0.gguf").weights["blocks.0.mlp.up.weight"]
    assert torch.equal(exact, model.weights["blocks.0.mlp.up.weight"])


def test_a_model_in_floats_has_no_codes_to_copy(tmp_path: Path):
    model = quantised(tmp_path, "llama", GptqConfig())
    with pytest.raises(UserError, match="no layers in few bits"):
        gguf_model.write(ForeignModel(model.config, model.weights), tmp_path / "m.gguf", "COPY")
    assert not (tmp_path / "m.gguf").exists()
