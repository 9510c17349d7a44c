"""Stretched positions: known answers, what cannot be stretched, and that scalings never add up."""

import math
from typing import Any

import pytest

from congling.core.errors import UserError
from congling.model.config import ModelConfig, RotaryConfig
from congling.model.families import FAMILIES
from congling.model.rope_scaling import (
    ClexScaling,
    DynamicScaling,
    LinearScaling,
    LongRopeScaling,
    RotaryScaling,
    YarnScaling,
)
from congling.transform.extend import LONGEST, METHODS, Factors, Method, extended, needless, unscaled

L, D = 256, 64


def config_of(family: str = "qwen3", **changes: Any) -> ModelConfig:
    shape = {"vocab_size": 64, "max_position_embeddings": L, "num_hidden_layers": 2, "hidden_size": 128}
    shape |= {"num_attention_heads": 2}
    if family in ("qwen3", "llama"):
        shape |= {"head_dim": D, "rope_theta": 10_000.0}
    return FAMILIES[family](**shape).replace(**changes)  # type: ignore[arg-type]


def rotary(config: ModelConfig) -> RotaryConfig:
    assert isinstance(config.positions, RotaryConfig)
    return config.positions


def scaling(config: ModelConfig) -> RotaryScaling | None:
    return rotary(config).rope_scaling


def test_what_each_method_makes_of_256_tokens_for_1024() -> None:
    config = config_of()
    made = {method: extended(config, method, 1024) for method in METHODS if method != "longrope"}
    assert all(one.max_position_embeddings == 1024 for one in made.values())
    assert scaling(made["linear"]) == LinearScaling(factor=4)
    assert scaling(made["ntk"]) is None
    assert rotary(made["ntk"]).rope_theta == pytest.approx(41829.4, abs=0.05)
    assert scaling(made["yarn"]) == YarnScaling(factor=4, original_max_position_embeddings=L)
    assert scaling(made["dynamic"]) == DynamicScaling(factor=4, original_max_position_embeddings=L)
    assert scaling(made["clex"]) == ClexScaling(max_factor=4, original_max_position_embeddings=L)
    for method, one in made.items():
        left: dict[str, Any] = one.model_dump() | {"max_position_embeddings": L}
        left["positions"] |= {"rope_theta": 10_000.0, "rope_scaling": None}
        assert left == config.model_dump(), method


def test_a_context_that_is_no_multiple_takes_the_factor_that_suffices() -> None:
    found = scaling(extended(config_of(), "yarn", 1000))
    assert isinstance(found, YarnScaling) and found.factor == 1000 / 256
    curve = scaling(extended(config_of(), "clex", 1000))
    assert isinstance(curve, ClexScaling) and curve.max_factor == 4


def test_ramp_attention_factor_and_factors_are_taken_as_given() -> None:
    found = scaling(extended(config_of(), "yarn", 512, beta=(8, 0.25), attention_factor=1.0, factor=3))
    assert isinstance(found, YarnScaling)
    assert (found.beta_fast, found.beta_slow, found.magnitude, found.factor) == (8, 0.25, 1.0, 3)
    factors = Factors((1.0,) * 32, tuple(1 + pair / 8 for pair in range(32)))
    other = scaling(extended(config_of(), "longrope", 1024, factors=factors))
    assert isinstance(other, LongRopeScaling) and other.long_factor == factors.long
    assert other.magnitude == pytest.approx(1.118033989)


@pytest.mark.parametrize("method", METHODS)
def test_an_extended_model_is_extended_from_its_trained_length(method: Method) -> None:
    factors = Factors((1.0,) * 32, (2.0,) * 32) if method == "longrope" else None
    config = config_of()
    once = extended(config, method, 1024, factors=factors)
    if method == "ntk":  # nothing tells a larger base from the one of a model made so
        return
    assert unscaled(once) == config
    twice = extended(once, method, 4096, factors=factors)
    assert twice == extended(config, method, 4096, factors=factors)


def test_a_scaling_that_weights_may_rely_on_is_not_replaced_by_another() -> None:
    yarn = extended(config_of(), "yarn", 1024)
    with pytest.raises(UserError, match=r"scaling of its positions already \(yarn\)") as raised:
        extended(yarn, "linear", 2048)
    assert "--method yarn goes on from its trained length (256 tokens)" in str(raised.value)
    with pytest.raises(UserError, match="trained with the scaling llama3"):
        llama3: dict[str, Any] = {
            "rope_type": "llama3",
            "factor": 8.0,
            "original_max_position_embeddings": 64,
        }
        extended(config_of(positions={"rope_scaling": llama3}), "yarn", 1024)
    with pytest.raises(UserError, match="no whole multiple"):
        extended(
            config_of(positions={"rope_scaling": {"rope_type": "linear", "factor": 3.0}}), "linear", 1024
        )
    dynamic = extended(config_of(), "dynamic", 1024)  # within the trained length it is the plain model
    assert extended(dynamic, "yarn", 1024) == extended(config_of(), "yarn", 1024)


def test_positions_that_cannot_be_stretched() -> None:
    with pytest.raises(UserError, match="use a rotary model"):
        extended(config_of("gpt2"), "yarn", 1024)
    alibi = config_of("llama", positions={"kind": "alibi"})
    assert needless(alibi)
    assert extended(alibi, "yarn", 1024) == alibi.replace(max_position_embeddings=1024)
    windows = config_of(attention={"sliding_window": 64})
    assert needless(windows)
    assert extended(windows, "yarn", 1024) == windows.replace(max_position_embeddings=1024)
    mixed = {"sliding_window": 64, "layer_types": ("sliding_attention", "full_attention")}
    assert not needless(config_of(attention=mixed))
    with pytest.raises(UserError, match="look through a window, and dynamic depends"):
        extended(config_of(attention=mixed), "dynamic", 1024)


@pytest.mark.parametrize("context", [L, L - 1, 0, LONGEST + 1, 10**9])
def test_a_context_that_is_none(context: int) -> None:
    with pytest.raises(UserError, match="longer than what the model|told apart only up to"):
        extended(config_of(), "yarn", context)


@pytest.mark.parametrize("factor", [0.0, 0.5, -4.0, math.nan, math.inf])
@pytest.mark.parametrize("method", ["linear", "ntk", "yarn", "dynamic"])
def test_a_factor_that_is_none(method: Method, factor: float) -> None:
    with pytest.raises(UserError, match="a number from 1 on"):
        extended(config_of(), method, 1024, factor=factor)


def test_ramps_and_values_that_do_not_fit() -> None:
    with pytest.raises(UserError, match=r"beta_slow must be below 40\.74"):
        extended(config_of(), "yarn", 1024, beta=(64, 41))
    with pytest.raises(UserError, match="at least beta_slow"):
        extended(config_of(), "yarn", 1024, beta=(1, 4))
    with pytest.raises(UserError):
        extended(config_of(), "yarn", 1024, attention_factor=math.nan)
    with pytest.raises(UserError, match="--beta is for yarn"):
        extended(config_of(), "linear", 1024, beta=(32, 1))
    with pytest.raises(UserError, match="--factor is for linear"):
        extended(config_of(), "clex", 1024, factor=8)
    with pytest.raises(UserError, match="--factors FILE"):
        extended(config_of(), "longrope", 1024)
    with pytest.raises(UserError, match="7 values for 32 pairs"):
        extended(config_of(), "longrope", 1024, factors=Factors((1.0,) * 7, (2.0,) * 7))
    with pytest.raises(UserError, match="1024"):
        extended(config_of(), "clex", 2**20)
