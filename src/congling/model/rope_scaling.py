"""How rotary positions are stretched beyond the length a model was trained on: one class a method, no torch.

::

    linear    all pairs turn slower (position interpolation)
    llama3    slow pairs turn slower, fast ones stay, those between are blended
    yarn      the same by turns within the trained length, and scores grow (attention_factor 1: NTK-by-parts)
    dynamic   the base grows with the text (dynamic NTK)          ┐
    longrope  a factor a pair, others within the trained length   ├ frequencies depend on the text's length
    clex      a learnt curve of frequencies over the length       ┘

NTK-aware scaling is no kind of its own: it is a larger ``rope_theta`` (:func:`ntk_theta`).
"""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from congling.core.config import Config

Factor = Annotated[float, Field(ge=1)]
"""By how much a context is stretched."""
SHARED_BANDS = 64
"""Where frequencies change at most so often within a text, all blocks share the angles."""


class LinearScaling(Config):
    """Positions divided by ``factor`` (position interpolation, Chen et al. 2023)."""

    rope_type: Literal["linear"] = "linear"
    factor: PositiveFloat


class Llama3Scaling(Config):
    """Slow channels divided by ``factor``, fast ones kept, those between blended (Llama 3.1).

    A channel is fast when it turns at least ``high_frequency_factor`` times within ``original_context``
    tokens, slow when at most ``low_frequency_factor`` times.
    """

    rope_type: Literal["llama3"] = "llama3"
    factor: PositiveFloat
    low_freq_factor: PositiveFloat = 1.0
    high_freq_factor: PositiveFloat = 4.0
    original_max_position_embeddings: PositiveInt = 8192

    @model_validator(mode="after")
    def _bands_are_apart(self) -> Self:
        if self.low_freq_factor >= self.high_freq_factor:
            raise ValueError("low_freq_factor must be less than high_freq_factor")
        return self


class YarnScaling(Config):
    """Pairs that turn ``beta_fast`` times and more within the trained length stay, those that turn at most
    ``beta_slow`` times are divided by ``factor``, and scores grow with it (YaRN, Peng et al. 2023).

    With ``attention_factor = 1`` it is their NTK-by-parts.
    """

    rope_type: Literal["yarn"] = "yarn"
    factor: Factor
    original_max_position_embeddings: PositiveInt
    """Tokens that the model was trained to read."""
    beta_fast: PositiveFloat = 32.0
    beta_slow: PositiveFloat = 1.0
    attention_factor: PositiveFloat | None = None
    """What cosines and sines are multiplied by; ``None``: by the formula, see :attr:`magnitude`."""
    mscale: PositiveFloat | None = None
    mscale_all_dim: PositiveFloat | None = None
    """DeepSeek's: both together replace the formula by a quotient of two."""
    truncate: bool = True
    """The ramp between fast and slow begins and ends at whole pairs."""

    @model_validator(mode="after")
    def _ramp_exists(self) -> Self:
        if self.beta_fast < self.beta_slow:
            raise ValueError("beta_fast must be at least beta_slow")
        length = self.original_max_position_embeddings
        if 2 * math.pi * self.beta_slow >= length:
            raise ValueError(
                f"2π·beta_slow ({2 * math.pi * self.beta_slow:.4g}) must be less than "
                f"original_max_position_embeddings ({length}): programs disagree on such a ramp"
            )
        return self

    @property
    def magnitude(self) -> float:
        """What cosines and sines are multiplied by: ``0.1 · ln(factor) + 1`` unless said otherwise."""
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale is not None and self.mscale_all_dim is not None:
            return _growth(self.factor, self.mscale) / _growth(self.factor, self.mscale_all_dim)
        return _growth(self.factor)

    def ramp(self, theta: float, rotary_dim: int) -> tuple[float, float]:
        """The first pair that is divided in part and the first that is wholly so, as transformers has it."""

        def pair(turns: float) -> float:
            turned = self.original_max_position_embeddings / (turns * 2 * math.pi)
            return rotary_dim * math.log(turned) / (2 * math.log(theta))

        low, high = pair(self.beta_fast), pair(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, rotary_dim - 1)
        return low, high + 0.001 if low == high else high


class DynamicScaling(Config):
    """Dynamic NTK: beyond the trained length L a token at position p sees through the base
    ``θ · (factor · (p+1)/L - (factor - 1))^(D/(D-2))`` (u/emozilla 2023).

    The base follows each token's own position, so that a text read as a whole, in pieces, or with a cache is
    one function.
    """

    rope_type: Literal["dynamic"] = "dynamic"
    factor: Factor
    original_max_position_embeddings: PositiveInt


class LongRopeScaling(Config):
    """Each pair divided by a factor of its own: ``short_factor`` for tokens within the trained length,
    ``long_factor`` for those behind it (LongRoPE, Ding et al. 2024; Phi-3).

    With both equal frequencies do not depend on the length: any spectrum can be said this way.
    """

    rope_type: Literal["longrope"] = "longrope"
    factor: Factor
    original_max_position_embeddings: Annotated[int, Field(ge=2)]
    short_factor: tuple[PositiveFloat, ...]
    long_factor: tuple[PositiveFloat, ...]
    attention_factor: PositiveFloat | None = None
    """What cosines and sines are multiplied by; ``None``: by the formula, see :attr:`magnitude`."""

    @model_validator(mode="after")
    def _as_many(self) -> Self:
        if len(self.short_factor) != len(self.long_factor):
            raise ValueError(
                f"short_factor has {len(self.short_factor)} values and long_factor {len(self.long_factor)}"
            )
        return self

    @property
    def magnitude(self) -> float:
        """What cosines and sines are multiplied by: ``√(1 + ln(factor) / ln(trained))`` unless said."""
        if self.attention_factor is not None:
            return self.attention_factor
        return math.sqrt(1 + math.log(self.factor) / math.log(self.original_max_position_embeddings))


class ClexScaling(Config):
    """Frequencies follow a learnt curve over ``t``, the length in units of the trained one (CLEX, Chen et al.
    2023); untrained it is NTK-aware scaling by ``2t - 1``. A token at position p sees through ``t =
    ⌈(p+1)/L⌉``, at most ``max_factor``.
    """

    rope_type: Literal["clex"] = "clex"
    max_factor: Annotated[int, Field(ge=1, le=1024)] = 16
    original_max_position_embeddings: PositiveInt
    expansion: PositiveFloat = 1.0
    """Hidden channels of the curve's network, in units of the channels that turn."""

    def hidden(self, rotary_dim: int) -> int:
        """Hidden channels of the network."""
        return max(1, round(self.expansion * rotary_dim))


RotaryScaling = Annotated[
    LinearScaling | Llama3Scaling | YarnScaling | DynamicScaling | LongRopeScaling | ClexScaling,
    Field(discriminator="rope_type"),
]


def ntk_theta(theta: float, factor: float, rotary_dim: int) -> float:
    """The base of NTK-aware scaling: the fastest pair stays, the slowest turns ``factor`` times slower."""
    return theta * factor ** (rotary_dim / (rotary_dim - 2))


def depends_on_length(scaling: RotaryScaling | None) -> bool:
    """Whether frequencies depend on where the token stands that looks."""
    match scaling:
        case DynamicScaling() | ClexScaling():
            return True
        case LongRopeScaling(short_factor=short, long_factor=long):
            return short != long
        case _:
            return False


def _growth(factor: float, times: float = 1.0) -> float:
    return 0.1 * times * math.log(factor) + 1.0
