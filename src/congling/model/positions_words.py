"""A model's positions in words, for people: kind, base, and by what they were stretched. No torch."""

import math

from congling.model.config import Positions
from congling.model.rope_scaling import (
    ClexScaling,
    DynamicScaling,
    LinearScaling,
    Llama3Scaling,
    LongRopeScaling,
    RotaryScaling,
    YarnScaling,
)


def positions_in_words(positions: Positions) -> str:
    """Kind, base and scaling in one line.

    >>> positions_in_words(RotaryConfig(rope_scaling=LinearScaling(factor=4)))
    'rotary, base 10000, linear × 4'
    """
    if positions.kind != "rope":
        return {"alibi": "ALiBi", "learned": "learned positions"}[positions.kind]
    base = f"rotary, base {positions.rope_theta:.7g}"
    scaling = positions.rope_scaling
    return base if scaling is None else f"{base}, {scaling_in_words(scaling)}"


def scaling_in_words(scaling: RotaryScaling) -> str:
    """Kind, factor, the trained length where it is part of the formula, and what scores are multiplied by.

    >>> scaling_in_words(YarnScaling(factor=4, original_max_position_embeddings=256))
    'yarn × 4 from 256 tokens, scores × 1.296'
    """
    match scaling:
        case LinearScaling(factor=factor):
            return f"linear × {factor:g}"
        case ClexScaling(max_factor=most, original_max_position_embeddings=trained):
            return f"clex, at most × {most} from {trained} tokens"
        case Llama3Scaling() | DynamicScaling() | YarnScaling() | LongRopeScaling():
            trained = scaling.original_max_position_embeddings
            found = f"{scaling.rope_type} × {scaling.factor:g} from {trained} tokens"
    grown = scaling.magnitude**2 if isinstance(scaling, YarnScaling | LongRopeScaling) else 1.0
    return found if math.isclose(grown, 1.0, rel_tol=1e-6) else f"{found}, scores × {grown:.4g}"
