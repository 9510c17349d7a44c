"""Positions that depend on the text's length, frozen at one length, for programs that know no others.

::

    dynamic     NTK-aware: the rope_theta of that length
    longrope    its long factors, or the short ones within the trained length
    clex        longrope with the factors of the curve at that length; the curve's parameters are left out

What comes out is static, and another function: in the length-dependent model each token sees through the
frequencies of *its* position, here all see through one set. The last token of a text of that length draws
the same from a layer that is given the same; but in several layers it is not given the same, since the
others saw otherwise. Shorter texts are read stretched, though nothing asked for it, as by NTK or YaRN.
"""

# D head width

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from congling.core.config import build
from congling.core.errors import UserError
from congling.model.clex import ClexPositions
from congling.model.config import ModelConfig, RotaryConfig
from congling.model.frequencies import rotary_frequencies
from congling.model.lazy import LazyTensors
from congling.model.rope_scaling import ClexScaling, DynamicScaling, LongRopeScaling, ntk_theta

_CURVE = ("positions.up", "positions.down")


def frozen(
    config: ModelConfig, weights: Mapping[str, Tensor], length: int
) -> tuple[ModelConfig, Mapping[str, Tensor]]:
    """The static model with the frequencies that tokens at ``length`` see through, and the context that these
    suffice for.

    A model whose positions do not depend on the length is handed back as it is. Weights stay as lazy as they
    are.

    Raises:
        UserError: ``length`` is not between 1 and the model's context, or a learnt curve is not finite there.
    """
    if not 1 <= length <= config.max_position_embeddings:
        hint = f"from 1 to {config.max_position_embeddings}"
        raise UserError("positions are frozen at a length that the model reads", value=length, hint=hint)
    if not config.depends_on_length or not isinstance(config.positions, RotaryConfig):
        return config, weights
    context = max(length, config.trained_length)
    if isinstance(config.positions.rope_scaling, LongRopeScaling) and length > config.trained_length:
        context = config.max_position_embeddings  # its long factors are one set for all lengths
    values: dict[str, Any] = config.model_dump()
    changed = values["positions"] | _static(config, config.positions, weights, length)
    values |= {"max_position_embeddings": context, "positions": changed}
    kept = [name for name in weights if name not in _CURVE]
    return build(ModelConfig, values, where=f"frozen at {length}"), LazyTensors(kept, weights.__getitem__)


def _static(
    config: ModelConfig, positions: RotaryConfig, weights: Mapping[str, Tensor], length: int
) -> dict[str, Any]:
    """What changes in the rotary positions."""
    scaling, width = positions.rope_scaling, config.attention.head_dim
    trained, turned = config.trained_length, positions.rotary_dim(width)
    match scaling:
        case DynamicScaling(factor=factor):
            growth = factor * max(length, trained) / trained - (factor - 1)
            theta = ntk_theta(positions.rope_theta, growth, turned)
            return {"rope_theta": theta, "rope_scaling": None}
        case LongRopeScaling(short_factor=short, long_factor=long):
            factors = long if length > trained else short
            same = {"short_factor": factors, "long_factor": factors}
            return {"rope_scaling": scaling.model_dump() | same}
        case ClexScaling():
            factors = _curve(positions, width, weights, length)
            return {
                "rope_scaling": {
                    "rope_type": "longrope",
                    "factor": max(1.0, length / trained),
                    "original_max_position_embeddings": max(2, trained),
                    "short_factor": factors,
                    "long_factor": factors,
                    "attention_factor": 1.0,
                }
            }
        case _:
            raise AssertionError(scaling)


def _curve(
    positions: RotaryConfig, width: int, weights: Mapping[str, Tensor], length: int
) -> tuple[float, ...]:
    """How much slower each pair turns at this length than in the plain model."""
    curve = ClexPositions(positions, width)
    curve.load_state_dict({name.removeprefix("positions."): weights[name].float() for name in _CURVE})
    turned = positions.rotary_dim(width) // 2
    with torch.no_grad():
        at = curve.frequencies(torch.tensor([length]))[0, :turned].double()
        plain = rotary_frequencies(positions, width)[:turned].double()
    factors = plain / at
    if not bool((factors.isfinite() & (factors > 0)).all()):
        raise UserError("the learnt curve of frequencies is not finite here", value=length)
    return tuple(factors.tolist())
