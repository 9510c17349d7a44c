"""What a text says of a model's matrices, and matrices rounded block after block by it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from congling.core.errors import UserError
from congling.interop.foreign import ForeignModel
from congling.interop.gguf import model as gguf_model
from congling.interop.gguf.calibrated import Calibration, collect, encoded_in_sequence
from congling.interop.gguf.file import GGUFFile
from congling.interop.gguf.imatrix import ImportanceMatrix, InputSquares
from congling.interop.gguf.names import gguf_name
from congling.interop.gguf.sources import sources
from congling.model.config import ModelConfig
from congling.model.families import gpt2, llama, qwen3_moe
from congling.model.transformer import Transformer
from congling.quant import ggml
from congling.quant.experts import separate_experts
from congling.quant.feedback import output_error
from congling.quant.walk import Walk
from support.adapters_made import model_of

SIZES: dict[str, Any] = {
    "vocab_size": 300, "max_position_embeddings": 64, "num_hidden_layers": 2, "hidden_size": 64,
    "num_attention_heads": 4,
}  # fmt: skip
LLAMA = llama(**SIZES, intermediate_size=96, tie_word_embeddings=False)
MIXTURE = qwen3_moe(**SIZES, moe_intermediate_size=32, num_experts=4, num_experts_per_tok=2)


def rows(count: int = 12) -> torch.Tensor:
    return torch.randint(0, 300, (count, 32), generator=torch.Generator().manual_seed(0))


def correlated() -> Transformer:
    """A model whose embedding has few directions: inputs depend on one another as in trained ones."""
    model, draw = model_of(LLAMA).eval(), torch.Generator().manual_seed(1)
    with torch.no_grad():
        model.embedding.weight.copy_(
            torch.randn(300, 12, generator=draw) @ torch.randn(12, 64, generator=draw) / 3
        )
    return model


def matrix_of(config: ModelConfig) -> ImportanceMatrix:
    found = collect(model_of(config).eval(), rows())
    return ImportanceMatrix({gguf_name(name, "llama"): entry for name, entry in found.items()})


def q4_0(model: Transformer) -> dict[str, str]:
    return dict.fromkeys((name for name, weight in model.named_parameters() if weight.dim() > 1), "Q4_0")


def test_squares_are_those_of_the_inputs():
    model, seen = model_of(LLAMA).eval(), []
    model.blocks[1].mlp.down.register_forward_pre_hook(lambda _, given: seen.append(given[0]))  # type: ignore[union-attr]
    found = collect(model, rows())
    x = torch.cat([each.flatten(0, -2) for each in seen])
    entry = found["blocks.1.mlp.down.weight"]
    np.testing.assert_allclose(entry.sums[0], x.square().sum(0).numpy(), rtol=1e-4)
    assert entry.counts.tolist() == [rows().numel()]
    query, key = (found[f"blocks.0.attention.{part}.weight"] for part in ("query", "key"))
    assert np.array_equal(query.sums, key.sums)
    assert not any(name.startswith(("embedding", "head")) for name in found)


def test_experts_count_the_tokens_that_reached_them():
    found = collect(model_of(MIXTURE).eval(), rows())
    gate, down = (found[f"blocks.0.mlp.experts.{part}"] for part in ("gate", "down"))
    assert gate.sums.shape == (4, 64) and down.sums.shape == (4, 32)
    assert gate.counts.sum() == 2 * rows().numel() and np.array_equal(gate.counts, down.counts)


def test_values_that_are_not_finite_are_refused():
    model = model_of(LLAMA).eval()
    with torch.no_grad():
        model.embedding.weight[rows()[0, 0]] = torch.nan
    with pytest.raises(UserError, match="finite"):
        collect(model, rows())


def test_outputs_of_a_whole_model_are_nearer_than_with_ggmls_codes():
    pytest.importorskip("xllamacpp")
    weights, wanted = correlated().state_dict(), correlated()(rows(4))

    def apart(blocks: dict[str, np.ndarray]) -> float:
        other = correlated()
        with torch.no_grad():
            for name, raw in blocks.items():
                other.get_parameter(name).copy_(torch.from_numpy(ggml.decode(raw, "Q4_0")))
            return float((other(rows(4)) - wanted).square().sum())

    squares = collect(correlated(), rows())
    nearest = {
        name: ggml.encode(weights[name].numpy(), "Q4_0", entry.importance[0])
        for name, entry in squares.items()
    }
    found, notes = encoded_in_sequence(correlated(), rows(40), dict.fromkeys(nearest, "Q4_0"))
    assert not notes
    assert {name: raw.shape for name, raw in found.items()} == {
        name: raw.shape for name, raw in nearest.items()
    }
    assert apart(found) < 0.7 * apart(nearest)


def test_outputs_of_every_expert_are_no_further_than_with_ggmls_codes():
    pytest.importorskip("xllamacpp")
    parts = [f"blocks.0.mlp.experts.{part}" for part in ("gate", "up", "down")]
    types = dict.fromkeys(
        (name for name, weight in model_of(MIXTURE).named_parameters() if weight.dim() > 1), "Q4_0"
    )
    found, notes = encoded_in_sequence(model_of(MIXTURE), rows(80), types)
    assert not notes and {name: found[name].shape[:2] for name in parts} == {
        name: model_of(MIXTURE).get_parameter(name).shape[:2] for name in parts
    }
    model: Any = model_of(MIXTURE)
    with torch.inference_mode():
        separate_experts(model)
        walk = Walk(model, [(rows(80), None, None)])
        for place, seen in walk.statistics([f"{parts[0]}.{expert}" for expert in range(4)]).items():
            weight, raw = model.get_submodule(place).weight, found[parts[0]][int(place[-1])]
            theirs = ggml.encode(weight.numpy(), "Q4_0", seen.mean_square.float().numpy())
            ours, former = (
                output_error(weight, torch.from_numpy(ggml.decode(one, "Q4_0")), seen.gram)
                for one in (raw, theirs)
            )
            assert (
                seen.tokens > 500 and (ours <= former * (1 + 1e-4)).all() and ours.sum() < 0.8 * former.sum()
            )


def test_experts_that_few_tokens_reach_keep_ggmls_codes_and_are_named():
    pytest.importorskip("xllamacpp")
    model = model_of(MIXTURE)
    types = q4_0(model)
    weights = model.blocks[0].mlp.experts.gate.detach().clone()  # type: ignore[union-attr]
    model.blocks[0].mlp.router.weight.data.zero_()  # type: ignore[union-attr]
    found, (note,) = encoded_in_sequence(model, rows(1), types)
    assert note.startswith("blocks.0.attention.query, ") and "fewer than 256 tokens" in note
    gate = found["blocks.0.mlp.experts.gate"]
    plain = ggml.encode(weights.numpy(), "Q4_0", np.ones((4, 64)))
    assert sum(np.array_equal(*each) for each in zip(gate, plain, strict=True)) == 2  # no token reached them


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3moe"])
def test_files_are_of_equal_size_and_hold_the_rows_in_their_order(tmp_path, family):
    pytest.importorskip("xllamacpp")
    config = {"llama": LLAMA, "gpt2": gpt2(**SIZES), "qwen3moe": MIXTURE}[family]
    model = ForeignModel(config, model_of(config).state_dict())
    matrix = ImportanceMatrix(_by_tensor(model, family))
    for name, calibration in {
        "plain": None, "matrix": Calibration(matrix), "gptq": Calibration(matrix, rows()),
    }.items():  # fmt: skip
        notes = gguf_model.write(model, tmp_path / name, "Q4_0", calibration=calibration)
        assert any("knows nothing of" in note for note in notes) == (calibration is not None)
    files = {name: GGUFFile.open(tmp_path / name) for name in ("plain", "matrix", "gptq")}
    assert len({path.stat().st_size for path in tmp_path.iterdir()}) == 1
    for tensor in files["plain"].tensors:
        plain, gptq = (files[name].array(tensor) for name in ("plain", "gptq"))
        assert np.abs(plain - gptq).max() <= 0.35 * np.abs(plain).max() + 1e-6
    changed = [
        name for name in files["matrix"].tensors
        if not np.array_equal(files["matrix"].array(name), files["gptq"].array(name))
    ]  # fmt: skip
    assert any("attn" in name for name in changed)


def _by_tensor(model: ForeignModel, architecture: str) -> dict[str, InputSquares]:
    found = collect(model_of(model.config).eval(), rows())
    listed = sources(model, architecture, Path("model"))
    return {source.name: found[source.parameters[0]] for source in listed if source.parameters[0] in found}


def test_types_that_need_a_matrix_are_refused_without(tmp_path):
    sizes = SIZES | {"hidden_size": 256, "intermediate_size": 256}
    wide = llama(**sizes)
    model = ForeignModel(wide, model_of(wide).state_dict())
    for type in ("IQ2_XXS", "IQ1_M", "IQ3_XXS"):
        with pytest.raises(UserError, match="needs an importance matrix"):
            gguf_model.write(model, tmp_path / "file", type)
    with pytest.raises(UserError, match="knows no tensor"):
        gguf_model.write(model, tmp_path / "file", "Q4_0", calibration=Calibration(ImportanceMatrix({})))
    with pytest.raises(UserError, match="another model"):
        gguf_model.write(model, tmp_path / "file", "Q4_0", calibration=Calibration(matrix_of(LLAMA)))
    assert not list(tmp_path.iterdir())
