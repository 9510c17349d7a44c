"""What is said of fewer bits beforehand: bytes as they come out, formats as they accept."""

from pathlib import Path
from typing import Any

import pytest
import torch

from congling.core.config import build
from congling.interop.hf.quantised.outgoing import KINDS, scheme_for
from congling.interop.obstacles import Unrepresentable
from congling.interop.stored_bits import stored_bits
from congling.methods.quantize import chosen
from congling.model.config import ModelConfig
from congling.model.counts import linear_shapes
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from congling.plan.quantisation import plan_quantisation
from congling.plan.quantised_formats import formats
from congling.plan.recipe import Recipe
from congling.quant.apply import quantise
from congling.quant.frozen import FrozenLinear
from congling.quant.stored import save_quantised
from support.situations import HLM, codes, plan

ROWS = [(torch.randint(0, 41, (24, 32), generator=torch.Generator().manual_seed(0)), None, None)]
METHODS = (
    ("rtn", "bits=4", "sym=true"), ("rtn", "bits=4"), ("gptq", "bits=3", "group_size=-1"), ("hqq", "bits=8"),
    ("awq", "bits=4", "group_size=16"), ("int8", "llm_int8_threshold=0"), ("int8", "whole_batch=true"),
    ("smoothquant",), ("onebit",),
)  # fmt: skip


def shape(family: str = "llama", **sizes: int) -> ModelConfig:
    given = {"vocab_size": 41, "max_position_embeddings": 32, "num_hidden_layers": 2, "hidden_size": 32}
    given |= {"num_attention_heads": 4} | ({} if "moe" in family else {"intermediate_size": 64})
    return FAMILIES[family](**given | sizes)  # type: ignore[arg-type]


@pytest.mark.parametrize("asked", METHODS)
def test_bytes_and_folders_are_those_of_the_quantised_model(asked: tuple[str, ...], tmp_path: Path):
    config, method = shape(), chosen(asked[0], asked[1:])
    model = Transformer(config)
    draw = torch.Generator().manual_seed(1)
    for tensor in model.state_dict().values():  # no matrix of zeros, whose zero points are 0
        tensor.copy_(0.1 * torch.randn(tensor.shape, generator=draw))
    quantise(model, method, ROWS)
    save_quantised(model, tmp_path, {})
    found = plan_quantisation(config, method, peak=1e11, tokens=768)
    assert found.file_bytes == sum(stored_bits(tmp_path).tensor_bytes.values())
    layers: dict[str, Any] = {n: m for n, m in model.named_modules() if isinstance(m, FrozenLinear)}
    assert found.weights == sum(one.in_features * one.out_features for one in layers.values())
    told = formats(config, method)
    for kind in KINDS:
        try:
            scheme_for(layers, kind)
        except Unrepresentable:
            assert told[kind.lower()], kind
        else:
            assert not told[kind.lower()], kind


def test_what_stands_in_the_way_is_said():
    wide = formats(shape(intermediate_size=40), chosen("rtn", ["group_size=8"]))
    assert "40 × 32" in wide["gptq"] and "multiples of 32" in wide["Q4_0"]
    assert "linear layers" in formats(shape("gpt2"), chosen("rtn"))["gptq"]
    assert formats(shape("gpt2"), chosen("rtn", ["sym=true"]))["Q4_0"] == ""
    assert "experts" in formats(shape("qwen3-moe"), chosen("rtn", ["sym=true"]))["ct"]
    assert "byte fallback" in formats(shape(), chosen("rtn"), "unigram")["Q4_1"]
    assert formats(shape(hidden_size=256, intermediate_size=512), chosen("onebit"))["TQ2_0"] == ""


def test_costs_follow_tokens_sizes_and_the_machine():
    small, method = shape(), chosen("gptq")
    one = plan_quantisation(small, method, peak=1e11)
    assert plan_quantisation(small, method, peak=2e11).seconds == pytest.approx(one.seconds / 2)
    more = plan_quantisation(small, method, peak=1e11, tokens=2 * one.tokens)
    assert one.seconds < more.seconds < 2 * one.seconds
    assert more.memory - one.memory == 4 * one.tokens * small.hidden_size
    deep = plan_quantisation(shape(num_hidden_layers=8), method, peak=1e11)
    assert deep.memory == one.memory and deep.seconds == pytest.approx(4 * one.seconds, rel=0.01)
    tried = plan_quantisation(small, chosen("awq+gptq"), peak=1e11).seconds
    assert tried > one.seconds + plan_quantisation(small, chosen("awq"), peak=1e11).seconds
    nothing = plan_quantisation(small, chosen("rtn"), peak=1e11)
    assert nothing.tokens == 0 and nothing.seconds < one.seconds and nothing.memory < one.memory
    experts = shape("qwen3-moe")
    idle = plan_quantisation(experts, chosen("int8"), peak=1e11).seconds
    mlp = experts.mlp.model_dump() | {"num_experts_per_tok": experts.mlp.num_experts}  # type: ignore[union-attr]
    assert plan_quantisation(experts.replace(mlp=mlp), chosen("int8"), peak=1e11).seconds > idle


def test_a_recipe_in_few_bits_says_its_size_and_refuses_groups_that_do_not_divide():
    found = plan(HLM, "15m", quantization__method="rtn", quantization__sym=True)
    said = next(one for one in found.findings if one.code == "quantised-formats")
    weights = sum(outputs * inputs for outputs, inputs in linear_shapes(found.model).values())
    assert said.severity == "note" and f"{weights:,}" in said.what and "gptq" in said.what
    odd = codes(plan(HLM, "15m", quantization__method="rtn", quantization__group_size=7))
    assert odd["quantised-groups"] == "error"
    mixed = plan(HLM, "15m", model__family="qwen3-moe", quantization__method="rtn")
    assert codes(mixed)["quantised-experts"] == "error"
    assert "quantised-formats" not in codes(plan(HLM, "15m"))
    asked = build(Recipe, {"data": {"sources": ["a.txt"]}, "quantization": {"method": "rtn", "bits": 2}})
    assert asked.quantization is not None and asked.quantization.method == "rtn"
