"""A longer context for a trained model: its positions are stretched, no weight is touched.

::

    linear      every pair turns factor times slower                      Chen et al. 2023
    ntk         a larger rope_theta: fast pairs stay, the slowest turns factor times slower
    yarn        pairs with many turns within the trained length stay, those with few are divided, scores grow;
                with an attention factor of 1: NTK-by-parts               Peng et al. 2023
    dynamic     NTK whose factor grows with the text                 ┐
    longrope    a factor a pair, as given                            ├ within the trained length as before
    clex        a curve over the length, which training can bend     ┘
"""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

from congling.core.config import build
from congling.core.errors import UserError
from congling.model.config import ModelConfig, RotaryConfig
from congling.model.rope_scaling import (
    ClexScaling,
    DynamicScaling,
    LinearScaling,
    LongRopeScaling,
    RotaryScaling,
    YarnScaling,
    ntk_theta,
)

Method = Literal["yarn", "linear", "ntk", "dynamic", "longrope", "clex"]
METHODS: tuple[Method, ...] = get_args(Method)
LONGEST = 2**24
"""Positions up to here are exact in float32."""


class Factors(NamedTuple):
    """What each pair of channels is divided by (LongRoPE)."""

    short: tuple[float, ...]
    """Of tokens within the trained length."""
    long: tuple[float, ...]
    """Of those behind it."""


def extended(
    config: ModelConfig,
    method: Method,
    context: int,
    *,
    factor: float | None = None,
    beta: tuple[float, float] | None = None,
    attention_factor: float | None = None,
    factors: Factors | None = None,
) -> ModelConfig:
    """The same model with ``context`` tokens.

    Scalings do not add up: a model that has one already is extended from the length it was trained on, by one
    scaling in place of the other (:func:`unscaled`).

    Args:
        config: of a model with rotary positions, or with ALiBi, which reads on without any change.
        method: see above.
        context: tokens that it is to read.
        factor: by how much positions are stretched; ``context`` divided by the trained length, which
            suffices. Of CLEX it follows from the context.
        beta: yarn: turns within the trained length from which on a pair stays, and up to which it is divided;
            32 and 1 by default.
        attention_factor: yarn, longrope: what cosines and sines are multiplied by; by formula if not given.
        factors: longrope: the factors.

    Raises:
        UserError: the model cannot be extended (learned positions, another scaling that it was trained with),
            the context is not longer than the trained length, or a value does not fit the method.
    """
    _refuse_unused(method, factor=factor, beta=beta, attention_factor=attention_factor, factors=factors)
    if config.positions.kind == "learned":
        what = "learned positions cannot be stretched: behind the last there is no vector"
        raise UserError(what, value=config.max_position_embeddings, hint="use a rotary model")
    if not isinstance(config.positions, RotaryConfig):
        _check_context(context, config.max_position_embeddings)
        return _with(config, context)
    plain = unscaled(config, method)
    trained = plain.max_position_embeddings
    _check_context(context, trained)
    if factor is not None and not 1 <= factor < math.inf:
        raise UserError("the factor is a number from 1 on", value=factor, hint=f"{context / trained:g}")
    if needless(config):
        return _with(plain, context)
    if method in ("dynamic", "clex") and config.attention.sliding_window is not None:
        what = f"some blocks look through a window, and {method} depends on the length"
        raise UserError(what, hint="choose a static method, such as yarn")
    by = context / trained if factor is None else factor
    if method == "ntk":
        return _with(plain, context, rope_theta=_larger_theta(config, config.positions, by))
    scaling = _scaling(method, by, plain, context, beta, attention_factor, factors)
    return _with(plain, context, rope_scaling=scaling.model_dump())


def _scaling(
    method: Method,
    by: float,
    plain: ModelConfig,
    context: int,
    beta: tuple[float, float] | None,
    attention_factor: float | None,
    factors: Factors | None,
) -> RotaryScaling:
    trained = plain.max_position_embeddings
    match method:
        case "linear":
            return LinearScaling(factor=by)
        case "yarn":
            return _yarn(by, trained, beta, attention_factor)
        case "dynamic":
            return build(DynamicScaling, {"factor": by, "original_max_position_embeddings": trained})
        case "longrope":
            return _longrope(by, trained, factors, attention_factor)
        case _:
            most = {"max_factor": math.ceil(context / trained), "original_max_position_embeddings": trained}
            return build(ClexScaling, most, where=f"context {context}")


def unscaled(config: ModelConfig, method: str | None = None) -> ModelConfig:
    """The model as it was before its positions were stretched, with the context it was trained on.

    With ``method``, only where that method can go on from there: weights that were trained with a scaling
    need it.

    Raises:
        UserError: that context is not known, or the scaling cannot be taken off.
    """
    if not isinstance(config.positions, RotaryConfig) or (scaling := config.positions.rope_scaling) is None:
        return config
    kind = scaling.rope_type
    if isinstance(scaling, LinearScaling):
        trained = config.max_position_embeddings / scaling.factor
        if trained != int(trained) or trained < 1:
            what = (
                "the context is no whole multiple of the linear scaling, so what it was trained on is unknown"
            )
            raise UserError(what, value=f"{config.max_position_embeddings} / {scaling.factor:g}")
        trained = int(trained)
    elif kind == "llama3":
        what = "this model was trained with the scaling llama3, and no other can be put in its place"
        raise UserError(what, hint="extend a model that has none")
    else:
        trained = config.trained_length
    if method is not None and method != kind and kind != "dynamic":
        what = f"this model has a scaling of its positions already ({kind}), which its weights may rely on"
        hint = f"--method {kind} goes on from its trained length ({trained} tokens)"
        raise UserError(what, value=method, hint=f"{hint}; or extend the model it was made from")
    return _with(config, trained, rope_scaling=None)


def needless(config: ModelConfig) -> bool:
    """Whether tokens look no further back than the model was trained to, however long the text is: ALiBi,
    or a window in every block."""
    if config.positions.kind == "alibi":
        return True
    window = config.attention.sliding_window
    types = {config.layer_type(layer) for layer in range(config.num_hidden_layers)}
    return window is not None and types == {"sliding_attention"} and window <= config.trained_length


def _check_context(context: int, trained: int) -> None:
    if context <= trained:
        what = f"the context must be longer than what the model was trained on ({trained} tokens)"
        raise UserError(what, value=context, hint=f"such as --context {4 * trained}")
    if context > LONGEST:
        raise UserError("positions can be told apart only up to 16,777,216 tokens", value=context)


def _refuse_unused(method: Method, **given: object) -> None:
    """Raise where a value says nothing to this method."""
    known = {
        "factor": ("linear", "ntk", "yarn", "dynamic", "longrope"),
        "beta": ("yarn",),
        "attention_factor": ("yarn", "longrope"),
        "factors": ("longrope",),
    }
    for name, value in given.items():
        if value is not None and method not in known[name]:
            option, those = f"--{name.replace('_', '-')}", " and ".join(known[name])
            raise UserError(f"{option} is for {those}", value=f"--method {method}", hint="leave it out")


def _larger_theta(config: ModelConfig, positions: RotaryConfig, factor: float) -> float:
    turned = positions.rotary_dim(config.attention.head_dim)
    if turned < 4:
        raise UserError("ntk needs two pairs of channels that turn, and more", value=turned)
    return ntk_theta(positions.rope_theta, factor, turned)


def _yarn(
    factor: float, trained: int, beta: tuple[float, float] | None, attention_factor: float | None
) -> YarnScaling:
    values: dict[str, Any] = {"factor": factor, "original_max_position_embeddings": trained}
    if beta is not None:
        values |= {"beta_fast": beta[0], "beta_slow": beta[1]}
    if attention_factor is not None:
        values["attention_factor"] = attention_factor
    slow = values.get("beta_slow", 1.0)
    if 2 * math.pi * slow >= trained:
        what = (
            f"beta_slow must be below {trained / (2 * math.pi):.4g} for a model trained on {trained} tokens"
        )
        raise UserError(what, value=slow, hint="programs disagree on what lies beyond")
    return build(YarnScaling, values, where="yarn")


def _longrope(
    factor: float, trained: int, factors: Factors | None, attention_factor: float | None
) -> LongRopeScaling:
    if factors is None:
        raise UserError("longrope needs a factor for each pair of channels", hint="--factors FILE.json")
    values: Mapping[str, Any] = {
        "factor": factor,
        "original_max_position_embeddings": trained,
        "short_factor": factors.short,
        "long_factor": factors.long,
        "attention_factor": attention_factor,
    }
    return build(LongRopeScaling, values, where="longrope")


def _with(config: ModelConfig, context: int, **positions: Any) -> ModelConfig:
    """With another context and other values of the positions."""
    values: dict[str, Any] = config.model_dump()
    values |= {"max_position_embeddings": context, "positions": values["positions"] | positions}
    return build(ModelConfig, values, where=f"context {context}")
