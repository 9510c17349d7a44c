"""A frozen model is static, and its frequencies are those of the one length."""

from typing import Any

import pytest
import torch

from congling.core.errors import UserError
from congling.model.config import ModelConfig, RotaryConfig
from congling.model.families import llama, qwen3
from congling.model.rope_scaling import LongRopeScaling
from congling.model.transformer import Transformer
from congling.transform.extend import Factors, Method, extended
from congling.transform.freeze import frozen

L, D = 16, 32
FACTORS = Factors((1.0,) * (D // 2), tuple(1 + pair / 4 for pair in range(D // 2)))
KINDS: tuple[Method, ...] = ("dynamic", "longrope", "clex")


def model_of(method: Method, layers: int = 1, family: Any = qwen3) -> Transformer:
    config: ModelConfig = family(
        vocab_size=96,
        max_position_embeddings=L,
        num_hidden_layers=layers,
        hidden_size=64,
        num_attention_heads=2,
        head_dim=D,
    )
    model = Transformer(extended(config, method, 8 * L, factors=FACTORS if method == "longrope" else None))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                scale = 0.02 if name == "positions.down" else 1.2 / parameter.shape[1] ** 0.5
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return model.eval()


def static(model: Transformer, length: int) -> Transformer:
    config, weights = frozen(model.config, model.state_dict(), length)
    assert not config.depends_on_length
    made = Transformer(config)
    made.load_state_dict(dict(weights))
    return made.eval()


def last(model: Transformer, length: int) -> torch.Tensor:
    ids = torch.randint(0, 96, (1, length), generator=torch.Generator().manual_seed(length))
    return model.logits(model(ids))[0, -1]


@pytest.mark.parametrize("method", KINDS)
@pytest.mark.parametrize("length", [L, L + 1, 5 * L, 8 * L])
@torch.no_grad()
def test_the_last_token_of_a_text_of_that_length_sees_the_same_in_one_layer(
    method: Method, length: int
) -> None:
    model = model_of(method, family=llama if method == "longrope" else qwen3)
    made = static(model, length)
    assert made.config.max_position_embeddings >= length
    assert (last(made, length) - last(model, length)).abs().max() <= 5e-5
    if length == 8 * L and method != "longrope":  # and of another length it does not
        assert (last(made, 3 * L) - last(model, 3 * L)).abs().max() > 1e-3


@torch.no_grad()
def test_with_several_layers_it_is_another_model_beyond_the_trained_length() -> None:
    model = model_of("dynamic", layers=2)
    assert (last(static(model, 8 * L), 8 * L) - last(model, 8 * L)).abs().max() > 1e-3
    assert (last(static(model, L), L) - last(model, L)).abs().max() <= 5e-5


def test_a_curve_becomes_factors_and_its_parameters_go() -> None:
    model = model_of("clex")
    config, weights = frozen(model.config, model.state_dict(), 3 * L)
    assert isinstance(config.positions, RotaryConfig)
    scaling = config.positions.rope_scaling
    assert isinstance(scaling, LongRopeScaling)
    assert scaling.short_factor == scaling.long_factor and scaling.magnitude == 1
    assert scaling.factor == 3 and config.max_position_embeddings == 3 * L
    assert set(model.state_dict()) - set(weights) == {"positions.up", "positions.down"}


def test_static_positions_stay_as_they_are_and_a_length_must_be_one() -> None:
    config = model_of("dynamic").config.replace(positions={"rope_scaling": None}, max_position_embeddings=L)
    config = extended(config, "yarn", 4 * L)
    weights: dict[str, torch.Tensor] = {}
    assert frozen(config, weights, 2 * L) == (config, weights)
    for length in (0, 4 * L + 1):
        with pytest.raises(UserError, match=f"from 1 to {4 * L}"):
            frozen(config, weights, length)
    broken = model_of("clex")
    with torch.no_grad():
        broken.get_parameter("positions.down").fill_(float("nan"))
    with pytest.raises(UserError, match="not finite"):
        frozen(broken.config, broken.state_dict(), 2 * L)
