"""How the positions of an adapter's base were stretched: kept with the adapter, compared where it is loaded.

What is compared is what positions do, not how they are written: a base in a GGUF file may hold another kind
with the same frequencies. Adapters of other programs, and ours from before, say nothing, and fit any base.
"""

# N lengths

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from congling.core.config import Config, build
from congling.core.errors import UserError
from congling.model.config import ModelConfig, Positions, RotaryConfig
from congling.model.frequencies import frequencies_at, magnitude
from congling.model.positions_words import positions_in_words
from congling.model.rope_scaling import ClexScaling
from congling.transform.adapter import Adapter

FACT = "positions"
"""Name of the fact."""
_CLOSE = 1e-5  # numbers of a GGUF file are float32
_TIMES = (1, 2, 4, 16, 64)
"""Times the trained length at which frequencies are compared."""


class _Kept(Config):
    """The fact, as it is checked."""

    positions: Positions


def facts_of(base: ModelConfig) -> dict[str, Any]:
    """What an adapter for this base keeps of its positions."""
    return {FACT: base.positions.model_dump(mode="json")}


def require_same(adapter: Adapter, base: ModelConfig, where: Path | str) -> None:
    """Compare the positions that an adapter was trained with and those of a base.

    Raises:
        UserError: they turn otherwise, or what the adapter says of them is damaged.
    """
    if FACT not in adapter.facts:
        return
    kept = build(_Kept, {FACT: adapter.facts[FACT]}, where=where, recorded=True).positions
    if same(kept, base):
        return
    raise UserError(
        "the adapter was trained on a base whose positions are stretched otherwise",
        where=where,
        value=f"{positions_in_words(kept)}; this base: {positions_in_words(base.positions)}",
        hint=_way(kept, base),
    )


def same(positions: Positions, base: ModelConfig) -> bool:
    """Whether a base with these positions would compute the same.

    The curve of CLEX is among the weights: two of it are taken for the same.
    """
    mine = base.positions
    if positions == mine:
        return True
    if not isinstance(positions, RotaryConfig) or not isinstance(mine, RotaryConfig):
        return False
    width, pair = base.attention.head_dim, (positions, mine)
    if any(not _fits(one, width) for one in pair):
        return False
    curves = [one.rope_scaling for one in pair if isinstance(one.rope_scaling, ClexScaling)]
    if len(curves) == 1 or len(set(map(repr, curves))) > 1:
        return False
    grown = [magnitude(one.rope_scaling) for one in pair]
    lengths = _lengths(pair)
    theirs, ours = (frequencies_at(one, width, lengths) for one in pair)
    return math.isclose(*grown, rel_tol=_CLOSE) and torch.allclose(theirs, ours, rtol=_CLOSE, atol=0)


def _lengths(pair: tuple[RotaryConfig, ...]) -> Tensor:
    """(N,): lengths within and beyond what either was trained on."""
    trained = {getattr(one.rope_scaling, "original_max_position_embeddings", 1) for one in pair}
    return torch.tensor(
        sorted({times * one + more for one in trained for times in _TIMES for more in (0, 1)})
    )


def _fits(positions: RotaryConfig, width: int) -> bool:
    """Whether the positions are possible for heads of this width; a damaged fact need not be."""
    turned = positions.rotary_dim(width)
    factors = getattr(positions.rope_scaling, "long_factor", None)
    return turned >= 4 and turned % 2 == 0 and (factors is None or len(factors) == turned // 2)


def _way(kept: Positions, base: ModelConfig) -> str:
    """What to do about it."""
    if not isinstance(kept, RotaryConfig) or not isinstance(base.positions, RotaryConfig):
        return "use the base it was trained on"
    if (asked := _extension(kept, base.positions, base)) is None:
        return "use the base it was trained on, or train an adapter on this one"
    return f"extend the base as the adapter's was: congling extend BASE {asked}"


def _extension(kept: RotaryConfig, mine: RotaryConfig, base: ModelConfig) -> str | None:
    """Options of ``congling extend`` that make plain positions those of the adapter; None where none do."""
    if mine.rope_scaling is not None:
        return None
    scaling, context = kept.rope_scaling, base.max_position_embeddings
    turned = mine.rotary_dim(base.attention.head_dim)
    if scaling is None and kept.rope_theta > mine.rope_theta and turned > 2:
        factor = (kept.rope_theta / mine.rope_theta) ** ((turned - 2) / turned)
        return f"--method ntk --context {round(factor * context)}"
    if scaling is None or not math.isclose(kept.rope_theta, mine.rope_theta, rel_tol=_CLOSE):
        return None
    if scaling.rope_type not in ("linear", "yarn", "dynamic", "clex"):
        return None
    factor = scaling.max_factor if isinstance(scaling, ClexScaling) else scaling.factor
    length = getattr(scaling, "original_max_position_embeddings", context)
    return f"--method {scaling.rope_type} --context {round(factor * length)}"
