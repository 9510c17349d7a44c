"""Models put in few bits block by block, in every family; and back from the disk to the last bit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from congling.core.errors import UserError
from congling.model.counts import linear_shapes
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from congling.quant.apply import quantise
from congling.quant.coded import CodedLinear
from congling.quant.config import GptqConfig, HqqConfig, QuantConfig, RtnConfig
from congling.quant.experts import separate_experts
from congling.quant.stored import (
    DESCRIPTION,
    dense_state,
    is_quantised,
    load_quantised,
    open_dense,
    save_quantised,
)
from congling.quant.walk import Rows

TOKENS = torch.randint(0, 41, (24, 32), generator=torch.Generator().manual_seed(0))
ROWS: list[Rows] = [(TOKENS[:12], None, None), (TOKENS[12:], None, None)]
GROUPS = 16


def model_of(family: str = "llama") -> Transformer:
    shape = {
        "vocab_size": 41, "max_position_embeddings": 32, "num_hidden_layers": 2, "hidden_size": 32,
        "num_attention_heads": 4, "intermediate_size": 48,
    }  # fmt: skip
    if "moe" in family:
        shape["moe_intermediate_size"] = shape.pop("intermediate_size")
    model = Transformer(FAMILIES[family](**shape))  # type: ignore[arg-type]
    draw = torch.Generator().manual_seed(1)
    for name, tensor in model.state_dict().items():
        noise = torch.randn(tensor.shape, generator=draw)
        tensor.copy_(1 + 0.1 * noise if "norm" in name and name.endswith("weight") else 0.2 * noise)
    return model.eval()


@torch.no_grad()
def logits(model: Transformer) -> Tensor:
    return model.logits(model(TOKENS))


def off(model: Transformer, exact: Tensor) -> float:
    return float((logits(model) - exact).square().mean() / exact.square().mean())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_quantised_written_and_read(family: str, tmp_path: Path):
    exact, model = logits(model_of(family)), model_of(family)
    reports = quantise(model, GptqConfig(bits=8, group_size=GROUPS), ROWS)
    assert off(model, exact) < (2e-2 if model.config.mlp.kind == "moe" else 2e-3)  # routes may change
    coded = {place for place, module in model.named_modules() if isinstance(module, CodedLinear)}
    assert coded == {layer.place for one in reports for layer in one.layers}
    parts: dict[str, Any] = {place: model.get_submodule(place) for place in coded}
    assert {place: (one.rows, one.inputs) for place, one in parts.items()} == linear_shapes(model.config)
    assert not [place for place, one in model.blocks.named_modules() if isinstance(one, nn.Linear)]
    save_quantised(model, tmp_path, {})
    assert is_quantised(tmp_path)
    assert torch.equal(logits(load_quantised(tmp_path)), logits(model))
    config, weights = open_dense(tmp_path)
    dense = Transformer(config)
    dense.load_state_dict(dict(weights))
    torch.testing.assert_close(logits(dense.eval()), logits(model), atol=1e-4, rtol=1e-4)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in dense_state(model).items())


def test_experts_apart_compute_what_they_did_together():
    exact, model = logits(model_of("qwen3-moe")), model_of("qwen3-moe")
    separate_experts(model)
    torch.testing.assert_close(logits(model), exact)


@pytest.mark.parametrize("group_size", [-1, GROUPS])
def test_gptq_is_better_than_nearest_and_the_same_twice(group_size: int):
    exact, results = logits(model_of()), []
    for config in (
        RtnConfig(bits=4, group_size=group_size),
        *[GptqConfig(bits=4, group_size=group_size)] * 2,
    ):
        model = model_of()
        quantise(model, config, ROWS)
        results.append((off(model, exact), logits(model)))
    assert results[1][0] < 0.8 * results[0][0]
    assert torch.equal(results[1][1], results[2][1])


def test_layers_are_calibrated_behind_what_is_in_few_bits_already():
    """The second block's statistics are those of a model whose first block is quantised."""
    model, half = model_of(), model_of()
    reports = quantise(model, GptqConfig(bits=2, group_size=GROUPS), ROWS)
    assert reports[0].drift is not None and reports[1].drift is not None
    for place, _ in list(half.named_modules()):
        if place.startswith("blocks.0.") and isinstance(half.get_submodule(place), nn.Linear):
            half.set_submodule(place, model.get_submodule(place))
    seen: list[Tensor] = []
    query = half.get_submodule("blocks.1.attention.query")
    hook = query.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    with torch.no_grad():
        for tokens, _, _ in ROWS:
            half(tokens)
    hook.remove()
    x = torch.cat(seen).flatten(0, 1).double()
    gram, weight = x.T @ x, query.weight.double()  # type: ignore[union-attr]
    lost = weight - model.get_submodule("blocks.1.attention.query").dense().double()  # type: ignore[operator]
    expected = float(((lost @ gram) * lost).sum() / ((weight @ gram) * weight).sum())
    told = next(layer for layer in reports[1].layers if layer.place == "blocks.1.attention.query")
    assert told.output_error == pytest.approx(expected, rel=1e-4)
    assert told.tokens == TOKENS.numel()


def test_layers_that_hardly_any_token_reaches_are_rounded_to_nearest_and_named():
    model = model_of("qwen3-moe")
    reports = quantise(model, GptqConfig(bits=4, group_size=GROUPS), [(TOKENS[:1], None, None)])
    assert all("rounded to nearest" in layer.notes[0] for one in reports for layer in one.layers)
    assert torch.isfinite(logits(model)).all()


@pytest.mark.parametrize(
    "config", [RtnConfig(group_size=12), GptqConfig(group_size=64), HqqConfig(group_size=5)]
)
def test_groups_that_do_not_divide_are_refused_before_anything_is_done(config: QuantConfig):
    model = model_of()
    with pytest.raises(UserError, match="does not divide") as refused:
        quantise(model, config, ROWS)
    assert refused.value.hint is not None and "8, 16, -1" in refused.value.hint
    assert isinstance(model.get_submodule("blocks.0.mlp.up"), nn.Linear)


@pytest.mark.parametrize("place", ["blocks.1.mlp.up", "embedding"])
def test_a_damaged_weight_is_named(place: str):
    model = model_of()
    with torch.no_grad():
        model.get_submodule(place).weight[3] = torch.nan  # type: ignore[operator, union-attr, index]
    with pytest.raises(UserError, match="not finite") as refused:
        quantise(model, GptqConfig(group_size=GROUPS), ROWS)
    assert refused.value.where == f"{place}.weight"
    assert isinstance(model.get_submodule("blocks.0.mlp.up"), nn.Linear)  # before anything is done


def test_without_a_text_gptq_is_refused():
    with pytest.raises(UserError, match="needs a text"):
        quantise(model_of(), GptqConfig(group_size=GROUPS))


@pytest.mark.parametrize("family", ["llama", "qwen3-moe"])
def test_files_that_lie_are_refused_in_one_message(family: str, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    model = model_of(family)
    quantise(model, RtnConfig(group_size=GROUPS))
    save_quantised(model, tmp_path, {})
    file, weights = tmp_path / DESCRIPTION, tmp_path / "model.safetensors"
    tensors, text = load_file(weights), json.loads(file.read_text())
    place = next(place for place in text["layers"] if place.endswith(("mlp.up", "experts.up.0")))

    def refused(match: str | None = None) -> None:
        with pytest.raises(UserError, match=match):
            load_quantised(tmp_path)

    for change in (
        {"bits": 3}, {"bits": "4"}, {"bits": 99}, {"group_size": 7}, {"group_size": -1},
        {"group_size": 10**12}, {"kind": "uncoded"}, {"kind": None},
    ):  # fmt: skip
        file.write_text(
            json.dumps(text | {"layers": text["layers"] | {place: text["layers"][place] | change}})
        )
        refused()
    for name in ("blocks.9.mlp.up", "embedding", "blocks.0.mlp.experts.up.99", "blocks.0.mlp.experts.up.x"):
        file.write_text(json.dumps(text | {"layers": text["layers"] | {name: text["layers"][place]}}))
        refused("no such layer")
    file.write_text(json.dumps(text | {"layers": {k: v for k, v in text["layers"].items() if k != place}}))
    refused("missing")
    file.write_text(json.dumps(text))
    scales = tensors[f"{place}.scales"]
    for part, wrong in (
        ("scales", scales * torch.nan), ("scales", scales[:, :1]),
        ("scales", scales.double()), ("codes", tensors[f"{place}.codes"][:-1]),
        ("codes", torch.zeros(10**6, dtype=torch.uint8)),
        ("zeros", tensors[f"{place}.zeros"] + 16), ("zeros", tensors[f"{place}.zeros"][:1]),
    ):  # fmt: skip
        save_file(tensors | {f"{place}.{part}": wrong.contiguous()}, weights)
        refused()
    save_file({name: one for name, one in tensors.items() if name != f"{place}.codes"}, weights)
    refused("missing")
    save_file(tensors | {"blocks.0.more": scales.clone()}, weights)
    refused("unknown")
