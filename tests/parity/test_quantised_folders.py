"""Layers in few bits in the programs they are for: transformers with auto-round, compressed-tensors,
bitsandbytes.

Where they compute in float32 logits are ours, and layers are really those of the program.
"""

import gc
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from congling.core.errors import UserError
from congling.evals.conversion.layers import layer_difference
from congling.evals.conversion.parity import TEXT, logits_of
from congling.evals.conversion.verdict import LAYERS
from congling.evals.conversion.verification import verify
from congling.interop.assembly import transformer
from congling.interop.engines import quantised
from congling.interop.engines.transformers import TransformersEngine
from congling.interop.hf.model import read, write
from congling.interop.hf.quantised.outgoing import KIND_OF
from congling.methods import conversion, importing
from congling.quant.int8 import CT_STEPS, Int8Linear
from congling.tokenizer import store
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.config import TokenizerConfig
from congling.tokenizer.training import train
from support.coded_models import coded_model

pytest.importorskip("transformers", reason="transformers comes with congling[hf]")
IDS = list(range(2, 100))
METHODS = {"GPTQ": "gptq", "AWQ": "awq", "CT": "compressed-tensors", "BNB": "bitsandbytes"}


def need(method: str) -> None:
    if lacking := quantised.missing(method):
        pytest.skip(f"{', '.join(lacking)} comes with congling[quant]")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer") / "character"
    train(TokenizerConfig(kind="character", vocab_size=420), lambda: iter(TEXT.splitlines() * 4), folder)
    return store.load(folder)


EXACT: list[Any] = [
    *(("GPTQ", {"bits": bits, "sym": sym, "group_size": group})
      for bits in (2, 4, 8) for sym in (True, False) for group in (-1, 32, 64)),
    *(("AWQ", {"sym": sym, "group_size": group}) for sym in (True, False) for group in (-1, 32, 64)),
    *(("CT", {"bits": bits, "group_size": group}) for bits in (2, 3, 4, 8) for group in (-1, 32)),
    ("GPTQ", {"family": "glm4"}), ("CT", {"family": "qwen2"}), ("AWQ", {"family": "qwen3", "sym": False}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "made"), EXACT, ids=str)
def test_logits_are_ours(kind: Any, made: dict[str, Any], tmp_path: Path):
    need(METHODS[kind])
    model = coded_model(**made)
    write(model, tmp_path / "folder", kind)
    theirs = TransformersEngine(tmp_path / "folder").logits(IDS)
    assert abs(theirs - logits_of(transformer(model), IDS)).max() <= 1e-5


@pytest.mark.parametrize(("kind", "made"), [("GPTQ", {}), ("AWQ", {"sym": False}), ("CT", {})], ids=str)
def test_logits_in_float16_are_near(kind: Any, made: dict[str, Any], tmp_path: Path):
    need(METHODS[kind])
    model = coded_model(**made)
    write(model, tmp_path / "folder", kind)
    theirs = TransformersEngine(tmp_path / "folder", torch.float16).logits(IDS)
    assert 0 < abs(theirs - logits_of(transformer(model), IDS)).max() <= 2e-2


def test_three_bits_are_computed_in_16(tmp_path: Path):
    need("gptq")
    model = coded_model(3)
    write(model, tmp_path / "folder", "GPTQ")
    theirs = TransformersEngine(tmp_path / "folder").logits(IDS)
    assert abs(theirs - logits_of(transformer(model), IDS)).max() <= 2e-2


@pytest.mark.parametrize("sym", [True, False])
def test_three_bits_with_zeros_are_those_of_a_layer_of_auto_round(sym: bool, tmp_path: Path):
    """No program loads such a folder, but the layer is there."""
    need("gptq")
    from auto_round_extension.torch.qlinear_torch_zp import QuantLinear

    model = coded_model(3, sym=sym, num_hidden_layers=1)
    write(model, tmp_path / "folder", "GPTQ")
    stored = load_file(tmp_path / "folder" / "model.safetensors")
    prefix = "model.layers.0.mlp.down_proj."
    ours = model.layers["blocks.0.mlp.down"]
    layer = QuantLinear(3, 32, ours.in_features, ours.out_features, False)
    layer.load_state_dict({part: stored[prefix + part] for part in ("qweight", "qzeros", "scales")})
    found = layer(torch.eye(ours.in_features)).T
    assert torch.allclose(found, ours.dense(), rtol=2**-10, atol=0)  # its products are rounded to float16


@pytest.mark.parametrize("threshold", [6.0, 0.0])
def test_bitsandbytes_computes_what_is_read_back(threshold: float, tmp_path: Path):
    need("bitsandbytes")
    model = coded_model(int8=threshold)
    write(model, tmp_path / "folder", "BNB")
    back = read(tmp_path / "folder")
    layer = back.layers["blocks.0.mlp.up"]
    assert isinstance(layer, Int8Linear) and layer.whole_batch and layer.threshold == threshold
    theirs = TransformersEngine(tmp_path / "folder").logits(IDS)
    assert abs(theirs - logits_of(transformer(back), IDS)).max() <= 1e-5


def test_inputs_in_8_bits_are_those_of_compressed_tensors_to_the_bit():
    """Its steps are max / 127.5, where LLM.int8 has max / 127: the largest input is at a tie."""
    need("compressed-tensors")
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import quantize
    from compressed_tensors.quantization.utils import compute_dynamic_scales_and_zp

    rounded = QuantizationArgs(num_bits=8, type="int", symmetric=True, strategy="token", dynamic=True)  # type: ignore[arg-type]
    x = torch.randn(1, 400, 64, generator=torch.Generator().manual_seed(2))  # without the 1 it has one scale
    x[0, 3] = 0
    scale, zero = compute_dynamic_scales_and_zp(x, rounded, torch.nn.Linear(64, 8))
    layer = Int8Linear(
        torch.ones(8, 64, dtype=torch.int8), torch.ones(8), threshold=0.0, token_steps=CT_STEPS
    )
    codes, most = layer.inputs_in_int8(x[0])[:2]
    assert torch.equal(codes, quantize(x, scale, zero, rounded)[0]) and codes.min() == -128
    assert torch.equal((most / CT_STEPS)[4:], scale[0, 4:])


@pytest.mark.parametrize(("kind", "threshold"), [("CT", 0.0), ("BNB", 0.0), ("BNB", 6.0)])
def test_layers_that_round_their_inputs_are_ours_one_by_one(kind: Any, threshold: float, tmp_path: Path):
    need(METHODS[kind])
    write(coded_model(int8=threshold, family="qwen2"), tmp_path / "folder", kind)
    engine = TransformersEngine(tmp_path / "folder")
    assert layer_difference(engine, tmp_path / "folder", IDS) <= 2e-6
    file = tmp_path / "folder" / "model.safetensors"
    stored = load_file(file)
    name = next(name for name in stored if name.endswith("down_proj.weight"))
    stored[name][5, 7] += 64 if stored[name][5, 7] < 0 else -64
    save_file(stored, file)
    assert layer_difference(engine, tmp_path / "folder", IDS) > LAYERS


CHECKED: list[Any] = [
    ("GPTQ", {}),
    ("AWQ", {"sym": False}),
    ("CT", {}),
    ("BNB", {"int8": 6.0}),
    ("CT", {"int8": 0.0}),
]


@pytest.mark.parametrize(("kind", "made"), CHECKED, ids=str)
def test_a_report_finds_nothing_amiss(kind: Any, made: dict[str, Any], tokenizer: Tokenizer, tmp_path: Path):
    need(METHODS[kind])
    model = coded_model(**made, tokenizer=tokenizer)
    write(model, tmp_path / "folder", kind)
    report = verify(model, "hf", tmp_path / "folder", type=kind, reader=read)
    assert report.misses == []
    if report.accuracy is not None:
        assert report.parity.equal_greedy == report.parity.greedy == 200
    if "int8" in made:
        assert report.layer_difference is not None and report.layer_difference <= 2e-6
    else:
        assert report.parity.largest_difference <= 1e-5


@pytest.mark.parametrize(("kind", "made"), CHECKED, ids=str)
def test_what_the_card_says_loads_the_folder(
    kind: Any, made: dict[str, Any], tokenizer: Tokenizer, tmp_path: Path, capsys: Any
):
    need(METHODS[kind])
    write(coded_model(**made, tokenizer=tokenizer), tmp_path / "folder", kind)
    card = (tmp_path / "folder" / "README.md").read_text(encoding="utf-8")
    block = card.partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(block.replace("this folder", str(tmp_path / "folder")), names)
    assert "从前" in capsys.readouterr().out
    quantised.require_layers(names["model"], METHODS[kind], tmp_path)


def test_layers_that_were_unpacked_are_not_taken_for_the_program(tmp_path: Path):
    class Dense(torch.nn.Module):
        pass

    with pytest.raises(UserError, match="not its layers as those of gptq"):
        quantised.require_layers(Dense(), "gptq", tmp_path)


@pytest.fixture(scope="module")
def from_auto_round(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders that AutoRound made of one model by rounding to nearest."""
    need("gptq")
    need("compressed-tensors")
    from auto_round import AutoRound

    folder = tmp_path_factory.mktemp("auto_round")
    write(coded_model(tokenizer=tokenizer, num_hidden_layers=1), folder / "floats", "F32")
    grid: dict[str, Any] = {"bits": 4, "group_size": 32}
    made = {"sym": (grid, "auto_gptq,auto_awq"), "asym": (grid | {"sym": False}, "auto_awq")}
    made |= {"w8a8": ({"scheme": "INT8_W8A8"}, "llm_compressor")}
    found: dict[str, Path] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "collect", lambda *_: 0)  # half of its time is spent there
        for name, (settings, form) in made.items():
            options = {"device_map": "cpu", "enable_torch_compile": False, "disable_opt_rtn": True}
            rounding = AutoRound(str(folder / "floats"), iters=0, **options, **settings)
            rounding.quantize_and_save(str(folder / name), format=form)
            for file in (folder / name).rglob("config.json"):
                method = json.loads(file.read_text("utf-8"))["quantization_config"]["quant_method"]
                found[f"{method} {name}"] = file.parent
    return found


@pytest.mark.parametrize("case", ["gptq sym", "awq sym", "awq asym", "compressed-tensors w8a8"])
def test_folders_of_auto_round_are_read(case: str, from_auto_round: dict[str, Path], tmp_path: Path):
    """Its symmetric scales may be below 0, so that the lowest code is used; its folders name other keys."""
    theirs, kind = from_auto_round[case], KIND_OF[case.partition(" ")[0]]
    back = read(theirs)
    assert len(back.layers) == 7
    engine = TransformersEngine(theirs)
    if kind == "CT":
        assert layer_difference(engine, theirs, IDS) <= 2e-6
    else:
        assert abs(engine.logits(IDS) - logits_of(transformer(back), IDS)).max() <= 1e-5
    write(back, tmp_path / "ours", kind)
    stored, again = (
        load_file(theirs / "model.safetensors"),
        load_file(tmp_path / "ours" / "model.safetensors"),
    )
    for name in (name for name in stored if "proj" in name and "g_idx" not in name):
        assert torch.equal(stored[name].to(again[name].dtype), again[name]), name


@pytest.mark.parametrize(("kind", "made"), [("AWQ", {"sym": False}), ("BNB", {"int8": 6.0})], ids=str)
def test_a_folder_is_imported_and_changes_its_format(
    kind: Any, made: dict[str, Any], tokenizer: Tokenizer, tmp_path: Path
):
    need(METHODS[kind])
    write(coded_model(**made, tokenizer=tokenizer, num_hidden_layers=1), tmp_path / "folder", kind)
    done = importing.run(tmp_path / "folder", tmp_path / "base")
    assert done.report is not None and done.report.misses == []
    if kind == "BNB":
        return
    floats = importing.run(tmp_path / "folder", tmp_path / "floats", dequantize=True)
    assert floats.report is not None and floats.report.misses == []
    changed = conversion.run(tmp_path / "folder", "hf", tmp_path / "changed", type="gptq", verify=False)
    there, here = read(changed.path), read(tmp_path / "folder")
    assert all(torch.equal(there.layers[name].dense(), here.layers[name].dense()) for name in here.layers)
