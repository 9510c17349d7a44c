"""What a small world is made from: how much text, which seed, which script, which kinds of documents."""

from collections.abc import Collection
from typing import Literal, Self, get_args

from pydantic import Field, model_validator

from congling.core.config import Config
from congling.core.units import Amount

Kind = Literal["story", "questions", "couplets", "dictionary", "arithmetic", "long"]
KINDS: tuple[Kind, ...] = get_args(Kind)

DEFAULT_MIX: dict[Kind, float] = {
    "story": 0.4,
    "questions": 0.25,
    "couplets": 0.12,
    "dictionary": 0.13,
    "arithmetic": 0.1,
}


def require_weights(weights: Collection[float]) -> None:
    """Refuse a mix that nothing can be drawn from.

    Raises:
        ValueError: a weight is negative or not finite, or all are zero.
    """
    if min(weights, default=0) < 0 or not 0 < sum(weights) < float("inf"):
        raise ValueError("the weights of the mix must be finite, not negative, and not all zero")


class SmallWorldConfig(Config):
    """The embedded corpus 小世界. The same seed gives the same world, at any size and in both scripts."""

    size: Amount = Field(2_000_000, ge=1)
    """Bytes of UTF-8 text; generation stops with the document that reaches it."""

    seed: int = Field(0, ge=0, lt=2**64)
    script: Literal["hans", "hant"] = "hans"
    """Simplified or Traditional characters."""

    mix: dict[Kind, float] = Field(default_factory=DEFAULT_MIX.copy)
    """Share of the *documents* of each kind; weights need not add up to 1. A kind left out is not made."""

    long_characters: int = Field(4000, ge=200, le=100_000)
    """Characters of a document of the kind ``long``, which ends with the line that reaches them."""

    @model_validator(mode="after")
    def _some_weight(self) -> Self:
        require_weights(self.mix.values())
        return self
