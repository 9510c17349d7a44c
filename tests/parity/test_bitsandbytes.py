"""Layers in int8 beside bitsandbytes on a CPU: codes, scales, outliers and products."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from congling.methods import conversion
from congling.quant.int8 import Int8Linear, int8_linear, int8_rows
from support import tiny_checkpoint
from support.gguf_models import CONFIGS, model_of

bnb = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
MODEL = model_of(CONFIGS["qwen3, biases"][1])
LAYERS = {name: one for name, one in MODEL.named_modules() if isinstance(one, torch.nn.Linear)}


def texts(channels: int) -> dict[str, torch.Tensor]:
    """Batches (N, I) with outliers of several kinds."""
    generator = torch.Generator().manual_seed(3)
    plain = torch.randn(9, channels, generator=generator)
    columns, scattered, at_threshold = plain.clone(), plain.clone(), plain.clone()
    columns[:, [3, 17, 40]] *= 20
    scattered[torch.rand(plain.shape, generator=generator) < 0.02] *= 50
    at_threshold[2, 5], at_threshold[4, 6] = 5.9999, 6.0  # the first rounds to 6 in float16
    return {
        "plain": plain,
        "columns": columns,
        "scattered": scattered,
        "at the threshold": at_threshold,
        "one token": columns[:1],
        "of a batch": columns.view(3, 3, channels),
    }


def theirs(linear: torch.nn.Linear, threshold: float) -> torch.nn.Module:
    layer = bnb.nn.Linear8bitLt(
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        has_fp16_weights=False,
        threshold=threshold,
    )
    layer.load_state_dict(linear.state_dict())
    return layer.to("cpu").eval()


@pytest.mark.parametrize("name", LAYERS)
def test_codes_scales_and_outliers_are_equal_to_the_bit(name: str):
    codes, scales = int8_rows(LAYERS[name].weight)
    their_codes, their_scales, _ = bnb.functional.int8_vectorwise_quant(LAYERS[name].weight.detach().half())
    assert torch.equal(codes, their_codes) and torch.equal(scales, their_scales)
    for x in texts(codes.shape[1]).values():
        rows = x.flatten(0, -2)
        layer = Int8Linear(codes, scales, threshold=6.0, whole_batch=True)
        tokens, most, columns = layer.inputs_in_int8(rows)[:3]
        expected = bnb.functional.int8_vectorwise_quant(rows.half(), threshold=6.0)
        assert torch.equal(tokens.to(torch.int8), expected[0])
        assert torch.equal(most.flatten(), expected[1]) and torch.equal(columns, expected[2])


@pytest.mark.parametrize("threshold", [0.0, 1.0, 6.0])
@pytest.mark.parametrize("name", list(LAYERS)[:7])
def test_products_are_those_of_bitsandbytes(name: str, threshold: float):
    linear = LAYERS[name]
    reference = theirs(linear, threshold)
    layer = Int8Linear(*int8_rows(linear.weight), linear.bias, threshold=threshold, whole_batch=True)
    for x in texts(linear.in_features).values():
        with torch.no_grad():
            expected = reference(x)
            assert (layer(x) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_a_folder_made_by_command_holds_their_codes_and_scales(tmp_path: Path, call: Any):
    tiny_checkpoint.write(tmp_path / "model")
    (tmp_path / "text.txt").write_text("云对雨，雪对风，晚照对晴空。" * 40, encoding="utf-8")
    given = ("--method", "int8", "whole_batch=true", "--data", "text.txt", "--tokens", "640")
    call("quantize", "model", *given, "--out", "q")
    call("convert", "q", "--to", "hf", "--type", "bnb", "--no-verify", "--out", "folder")
    conversion.run(tmp_path / "model", "hf", tmp_path / "floats", verify=False)
    floats, stored = (load_file(tmp_path / name / "model.safetensors") for name in ("floats", "folder"))
    layers = [name.removesuffix(".SCB") for name in stored if name.endswith(".SCB")]
    assert len(layers) == len([name for name in floats if "_proj" in name]) > 0
    for layer in layers:
        codes, scales, _ = bnb.functional.int8_vectorwise_quant(floats[f"{layer}.weight"].half())
        assert torch.equal(stored[f"{layer}.weight"], codes) and torch.equal(stored[f"{layer}.SCB"], scales)


def test_columns_kept_in_16_bits_lose_less_than_bitsandbytes():
    linear = LAYERS["blocks.0.mlp.up"]
    x = texts(linear.in_features)["columns"]
    with torch.no_grad():
        exact, found = linear(x), theirs(linear, 6.0)(x)
        layer = int8_linear(linear.weight, linear.bias, 6.0, x.abs().amax(0))
        assert layer.outliers.tolist() == reference_columns(x)
        assert (layer(x) - exact).norm() < 0.5 * (found - exact).norm()


def reference_columns(x: torch.Tensor) -> list[int]:
    return bnb.functional.int8_vectorwise_quant(x.half(), threshold=6.0)[2].tolist()
