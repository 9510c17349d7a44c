"""Our rotary positions as keys of a Hugging Face ``config.json``, and what these cannot say. Without torch.

``rope_theta`` and ``rope_scaling`` stand outside of ``rope_parameters``: transformers 4 and 5 both find them.
transformers only warns of ``attn_factor``, ``short_mscale`` and ``long_mscale``: these vLLM reads where it
does not read ``attention_factor``.
"""

from typing import Any

from congling.interop.obstacles import Obstacle
from congling.model.config import ModelConfig, RotaryConfig
from congling.model.rope_scaling import (
    ClexScaling,
    DynamicScaling,
    LinearScaling,
    Llama3Scaling,
    LongRopeScaling,
    RotaryScaling,
    YarnScaling,
    depends_on_length,
)

_FREEZE = "congling convert … --to hf --freeze {}"


def rope_scaling(scaling: RotaryScaling | None) -> dict[str, Any] | None:
    """The table that transformers reads; None: positions as they are without any.

    CLEX, of which there is no such table, is an error of the caller's: see :func:`obstacle`.
    """
    match scaling:
        case None:
            return None
        case LinearScaling() | Llama3Scaling():
            return scaling.model_dump()
        case DynamicScaling(factor=factor):  # the trained length is the folder's max_position_embeddings
            return {"rope_type": "dynamic", "factor": factor}
        case YarnScaling():
            return _yarn(scaling)
        case LongRopeScaling():
            return _longrope(scaling)
        case ClexScaling():
            raise AssertionError(scaling)


def context(config: ModelConfig) -> int:
    """``max_position_embeddings`` of the folder: the context; for dynamic positions the trained length."""
    scaling = config.positions.rope_scaling if config.positions.kind == "rope" else None
    if isinstance(scaling, DynamicScaling):
        return scaling.original_max_position_embeddings
    return config.max_position_embeddings


def obstacle(config: ModelConfig) -> Obstacle | None:
    """Why no folder says what the positions of this model are, if so."""
    scaling = config.positions.rope_scaling if config.positions.kind == "rope" else None
    if isinstance(scaling, ClexScaling):
        return Obstacle(
            "transformers has no learnt curve of frequencies (positions.rope_scaling = clex)",
            "use positions.rope_scaling = yarn, linear, dynamic or longrope",
            f"freeze the positions at one length: {_FREEZE.format(config.max_position_embeddings)}",
        )
    return None


def notes(config: ModelConfig) -> list[str]:
    """Where a program that reads the folder computes something else, in sentences."""
    scaling = config.positions.rope_scaling if config.positions.kind == "rope" else None
    if not depends_on_length(scaling) or config.max_position_embeddings <= config.trained_length:
        return []
    trained, freeze = config.trained_length, _FREEZE.format(config.max_position_embeddings)
    if isinstance(scaling, DynamicScaling):
        return [
            f"the folder says a context of {trained:,} tokens, within which transformers computes the same; "
            "of longer texts it turns all tokens read at once by one base, which is another function, and "
            f"with a cache yet another: for {config.max_position_embeddings:,} tokens freeze it ({freeze})"
        ]
    return [
        f"transformers computes the same in texts of up to {trained:,} tokens; in longer ones it turns all "
        f"tokens read at once by the long factors, here those beyond {trained:,} alone: for "
        f"{config.max_position_embeddings:,} tokens freeze it ({freeze})"
    ]


def positions(config: ModelConfig, partial: bool) -> dict[str, Any]:
    """All keys of rotary positions; with ``partial`` the share of each head that turns."""
    assert isinstance(config.positions, RotaryConfig)
    values: dict[str, Any] = {"rope_theta": config.positions.rope_theta}
    if partial:
        values["partial_rotary_factor"] = config.positions.partial_rotary_factor
    scaling = rope_scaling(config.positions.rope_scaling)
    return values if scaling is None else values | {"rope_scaling": scaling}


def _yarn(scaling: YarnScaling) -> dict[str, Any]:
    values = {key: value for key, value in scaling.model_dump().items() if value is not None}
    if scaling.truncate:
        del values["truncate"]  # the rule; older transformers do not know the key
    usual = scaling.replace(attention_factor=None, mscale=None).magnitude
    return values if scaling.magnitude == usual else values | {"attn_factor": scaling.magnitude / usual}


def _longrope(scaling: LongRopeScaling) -> dict[str, Any]:
    values = {key: value for key, value in scaling.model_dump().items() if value is not None}
    values |= {"short_factor": list(scaling.short_factor), "long_factor": list(scaling.long_factor)}
    return values | {"short_mscale": scaling.magnitude, "long_mscale": scaling.magnitude}
