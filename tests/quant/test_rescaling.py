"""Models through AWQ, SmoothQuant and LLM.int8: nothing changes before rounding, less is lost after it."""

import copy
from dataclasses import replace

import pytest
import torch

from congling.core.errors import UserError
from congling.quant.apply import quantise
from congling.quant.config import AwqConfig, GptqConfig, Int8Config, RtnConfig, SmoothQuantConfig
from congling.quant.folding import Folding, foldings
from congling.quant.int8 import Int8Linear, outliers_found
from congling.quant.rescaling import rescale_for_awq, rescale_for_smoothquant
from congling.quant.statistics import InputStatistics, InputSums
from congling.quant.stored import load_quantised, save_quantised
from support.gguf_models import CONFIGS, model_of
from support.plants import plant

ROWS = torch.randint(0, 320, (8, 64), generator=torch.Generator().manual_seed(0))
HELD_OUT = torch.randint(0, 320, (8, 64), generator=torch.Generator().manual_seed(1))
AWQ = AwqConfig(bits=3, group_size=32)


def named(name):
    return model_of(CONFIGS[name][1])


@torch.no_grad()
def logits(model, rows=HELD_OUT):
    return model.logits(model(rows))


def divergence(model, reference):
    """Mean KL of a model's predictions."""
    p, q = (one.double().log_softmax(-1) for one in (reference, logits(model)))
    return float((p.exp() * (p - q)).sum(-1).mean())


def through(model, config):
    found = copy.deepcopy(model)
    reports = quantise(found, config, [(ROWS, None, None)])
    return found, reports


@torch.no_grad()
def statistics(model, block) -> dict[str, InputStatistics]:
    found, hooks = {}, []
    for name, layer in model.named_modules():
        if name.startswith(f"blocks.{block}.") and isinstance(layer, torch.nn.Linear):
            found[name] = InputSums(layer.in_features, layer.weight.device)
            hooks.append(layer.register_forward_pre_hook(lambda _, x, name=name: found[name].add(x[0])))
    model(ROWS)
    for hook in hooks:
        hook.remove()
    return {name: sums.statistics() for name, sums in found.items()}


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2", "olmo2", "gemma3", "mixtral", "deepseek-moe"])
@pytest.mark.parametrize(
    ("rescale", "config"), [(rescale_for_awq, AWQ), (rescale_for_smoothquant, SmoothQuantConfig())]
)
def test_a_model_computes_what_it_did(name, rescale, config):
    model = named(name)
    plant(model, 2, 30.0)
    before, weights = logits(model), copy.deepcopy(model.state_dict())
    notes = rescale(model, 1, statistics(model, 1), config)
    after = logits(model)
    assert (after - before).abs().max() <= 1e-5 * max(1, before.std().item())
    if name != "olmo2" or rescale is rescale_for_awq:
        assert any(not torch.equal(weights[key], now) for key, now in model.state_dict().items())
    expected = {
        "gpt2": ["mlp.down"],
        "olmo2": ["attention.query", "mlp.gate, mlp.up"],
    }
    for start in expected.get(name, []):
        assert any(note.startswith(f"not scaled, {start}") for note in notes)
    others = [note for note in notes if "fewer than 256 tokens" not in note]
    assert bool(others) == (name in expected)


def test_experts_that_hardly_any_token_reached_are_named_and_left_alone():
    model = named("mixtral")
    plant(model, 1, 30.0)
    seen = statistics(model, 0)
    few = {place: replace(one, tokens=3 if place.endswith("down.1") else 300) for place, one in seen.items()}
    down = model.get_submodule("blocks.0.mlp.experts.down.1").weight.clone()
    other = model.get_submodule("blocks.0.mlp.experts.down.0").weight.clone()
    notes = rescale_for_awq(model, 0, few, AWQ)
    assert notes == ("not scaled, mlp.experts.down: fewer than 256 tokens came by",)
    assert torch.equal(model.get_submodule("blocks.0.mlp.experts.down.1").weight, down)
    assert not torch.equal(model.get_submodule("blocks.0.mlp.experts.down.0").weight, other)


def test_awq_loses_less_than_rounding_and_gptq_afterwards_less_still():
    model = named("qwen3")
    plant(model, 2, 30.0)
    reference = logits(model)
    lost = {
        name: divergence(through(model, config)[0], reference)
        for name, config in {
            "rtn": RtnConfig(bits=3),
            "gptq": GptqConfig(bits=3),
            "awq": AWQ,
            "awq+gptq": AwqConfig(bits=3, rounding="gptq"),
        }.items()
    }
    assert lost["awq"] < 0.6 * lost["rtn"]
    assert lost["awq+gptq"] < min(lost["awq"], lost["gptq"])


def test_int8_finds_the_plant_and_keeps_what_it_costs():
    model = named("llama")
    planted = copy.deepcopy(model)
    where = plant(planted, 3, 60.0)
    reference = logits(model)
    plain, _ = through(model, Int8Config())
    found, _ = through(planted, Int8Config())
    absmax, _ = through(planted, Int8Config(llm_int8_threshold=0))

    def outliers(one):
        return {p: m.outliers.tolist() for p, m in one.named_modules() if isinstance(m, Int8Linear)}

    natural, all_found = outliers(plain), outliers(found)
    for place, columns in where.items():
        assert all_found[place] == sorted({*natural[place], *columns})
    cost = divergence(found, reference)
    assert cost <= 1.1 * divergence(plain, reference)
    assert divergence(absmax, reference) >= 50 * cost


def test_smoothquant_finds_the_plant():
    model = named("llama")
    planted = copy.deepcopy(model)
    where = plant(planted, 3, 60.0)
    reference = logits(model)
    found, _ = through(planted, SmoothQuantConfig())
    plain, _ = through(model, SmoothQuantConfig())
    assert divergence(found, reference) <= 1.05 * divergence(plain, reference)
    for folding in foldings(model.config, 1):
        if isinstance(folding, Folding) and folding.of_norm:  # planted a times, divided by a times the scale
            quotient = found.get_submodule(folding.source).weight / plain.get_submodule(folding.source).weight
            assert (quotient[where[folding.readers[0]]] - 1).abs().max() < 0.02


def test_what_is_apart_is_said():
    model = named("llama")
    assert outliers_found(model) is None
    quiet, _ = through(model, Int8Config(llm_int8_threshold=1e4))
    assert (
        outliers_found(quiet) == "0 columns ≥ 10000: there is nothing to decompose, all products are in int8"
    )
    planted = copy.deepcopy(model)
    plant(planted, 3, 200.0)
    found, _ = through(planted, Int8Config(llm_int8_threshold=50))
    told = outliers_found(found)
    kinds = ("query", "key", "value", "gate", "up")
    where = ", ".join(f"{kind} 6 of 128" for kind in kinds)
    assert told is not None and told.endswith(f"columns ≥ 50 keep weights of 16 bits: {where}")
    assert outliers_found(through(model, SmoothQuantConfig())[0]) is None


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("qwen3, biases", Int8Config()),
        ("qwen3, biases", Int8Config(whole_batch=True)),
        ("qwen3, biases", SmoothQuantConfig()),
        ("qwen3, biases", AWQ),
        ("mixtral", Int8Config()),
    ],
)
def test_what_is_written_is_read_again(name, config, tmp_path):
    planted = named(name)
    plant(planted, 2, 60.0)
    found, _ = through(planted, config)
    save_quantised(found, tmp_path, {})
    again = load_quantised(tmp_path)
    assert torch.equal(logits(again), logits(found))
    (tmp_path / "twice").mkdir()
    save_quantised(again, tmp_path / "twice", {})
    assert (tmp_path / "twice" / "model.safetensors").read_bytes() == (
        tmp_path / "model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(
    ("facts", "parts"),
    [
        ({"threshold": -1.0}, {}),
        ({"threshold": float("nan")}, {}),
        ({"threshold": True}, {}),
        ({"whole_batch": 1}, {}),
        ({}, {"codes": None}),
        ({}, {"scales": None}),
        ({}, {"outliers": None}),
        ({}, {"codes": torch.zeros(2, 4)}),
        ({}, {"codes": torch.zeros(4, 2, dtype=torch.int8)}),
        ({}, {"outliers": torch.tensor([0, 2], dtype=torch.int32)}),
        ({}, {"outliers": torch.tensor([0, 9])}),
        ({}, {"scales": torch.tensor([1.0, float("inf")])}),
    ],
)
def test_stored_layers_that_lie_are_refused(facts, parts):
    good = {
        "codes": torch.zeros(2, 4, dtype=torch.int8),
        "scales": torch.ones(2),
        "outliers": torch.tensor([0, 2]),
        "outlier_weight": torch.ones(2, 2).half(),
    }
    told = {"threshold": 6.0, "whole_batch": False}
    Int8Linear.restored(told, good.get, (2, 4))
    with pytest.raises(UserError):
        Int8Linear.restored(told | facts, (good | parts).get, (2, 4))
