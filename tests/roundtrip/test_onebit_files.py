"""One-bit models leave the house: TQ2_0 and TQ1_0 hold them exactly; the paper's form is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from congling.core.errors import UserError
from congling.interop.foreign import ForeignModel
from congling.interop.gguf import model as gguf_model
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from congling.quant import ggml
from congling.quant.apply import quantise
from congling.quant.config import OneBitConfig
from congling.quant.onebit import OneBitLinear
from congling.quant.stored import load_quantised, open_dense, open_layers, save_quantised
from support.training_doubles import CONTEXT, VOCABULARY, small_model


@pytest.fixture(scope="module")
def exportable(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Transformer]:
    folder = tmp_path_factory.mktemp("onebit")
    return folder, stored(folder, OneBitConfig(), 256)


def stored(folder: Path, config: OneBitConfig, width: int) -> Transformer:
    torch.manual_seed(0)
    sizes = {"hidden_size": width, "intermediate_size": 96, "num_hidden_layers": 1}
    model = Transformer(FAMILIES["llama"](vocab_size=64, max_position_embeddings=16, **sizes))
    for parameter in model.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    quantise(model, config, [(torch.randint(0, 64, (8, 16)), None, None)])
    save_quantised(model, folder, {"quantization": config.model_dump(mode="json")})
    return model


@pytest.mark.parametrize("type", ["TQ2_0", "TQ1_0"])
def test_a_gguf_file_holds_the_same_model(type: str, exportable: tuple[Path, Transformer], tmp_path: Path):
    folder, model = exportable
    config, weights = open_dense(folder)
    gguf_model.write(ForeignModel(config, weights, None, {}, open_layers(folder)), tmp_path / "m.gguf", type)
    read = gguf_model.read(tmp_path / "m.gguf")
    assert read.facts["types"][type] == 6  # all but `down`, whose rows are no multiple of 256
    for name, value in model.state_dict().items() | weights.items():
        if name.startswith("blocks."):
            assert torch.equal(read.weights[name], value), name
    dense = Transformer(read.config)
    dense.load_state_dict(
        dict(read.weights) | {"embedding.weight": weights["embedding.weight"]}, strict=False
    )
    tokens = torch.arange(12)[None]
    torch.testing.assert_close(dense.eval()(tokens), load_quantised(folder)(tokens), atol=2e-3, rtol=1e-3)


def test_one_magnitude_a_row_is_exact_in_both_types():
    signs = np.where(np.random.default_rng(0).random((5, 512)) < 0.5, -1, 1)
    scales = np.array([[0.1], [0.02], [3], [1e-4], [0]], np.float16)
    rows = (signs * scales).astype(np.float32)
    for type in ("TQ2_0", "TQ1_0"):
        assert np.array_equal(ggml.decode(ggml.encode(rows, type), type), rows)


def test_the_form_with_layer_norms_runs_here_alone(tmp_path: Path):
    model = stored(tmp_path, OneBitConfig(layer_norm=True), 32)
    tokens = torch.arange(12)[None]
    assert torch.equal(load_quantised(tmp_path)(tokens), model(tokens))
    _, weights = open_dense(tmp_path)
    with pytest.raises(UserError, match="one-bit layers with layer norms are no matrices"):
        weights["blocks.0.mlp.up.weight"]


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_models_keep_their_shape_and_exportable_ones_one_magnitude_a_row(family: str):
    torch.manual_seed(0)
    model = small_model(family)
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    tokens = torch.randint(0, VOCABULARY, (64, CONTEXT))
    norms = {name: one.clone() for name, one in model.named_parameters() if "norm" in name}
    reports = quantise(model, OneBitConfig(), [(tokens, None, None)])
    layers = [module for module in model.modules() if isinstance(module, OneBitLinear)]
    assert len(layers) == sum(len(report.layers) for report in reports) >= 12
    for layer in layers:
        assert layer.input_scale is None and torch.equal(
            layer.dense().abs(), layer.output_scale.float()[:, None].expand(-1, layer.inputs)
        )
    assert any(not torch.equal(one, norms[name]) for name, one in model.named_parameters() if name in norms)
    errors = [layer.output_error for report in reports for layer in report.layers]
    assert all(error is not None and error < 0.45 for error in errors)  # of isotropic inputs: 1 - 2/π
    assert model(tokens).isfinite().all()
    assert ("GELU" in " ".join(note for report in reports for note in report.notes)) == (family == "gpt2")
