"""Stretched rotary positions as llama.cpp is told of them. Without torch.

::

    rope.freq_base                         the base, and in it NTK-aware scaling
    rope.scaling.type, .factor             linear, or yarn: its ramp is that of 32 and 1 turns within
    rope.scaling.original_context_length   so many tokens
    rope.scaling.attn_factor               multiplies cosines and sines, beside yarn's 0.1 · ln(factor) + 1
    rope_freqs.weight                      what frequencies are divided by: any spectrum, in few architectures
    congling.positions                     base and scaling in our words, where those above do not tell them

llama.cpp passes over ``rope.scaling.yarn_*`` in the architectures that we write, begins and ends every ramp
at whole pairs, and ends the whole process at a type that it does not know, ``dynamic`` among them.
"""

# D channels of a head that turn

import math
from typing import NamedTuple

import numpy as np
from pydantic import PositiveFloat

from congling.core.config import Config
from congling.interop.gguf.fields import Field
from congling.model.config import RotaryConfig
from congling.model.rope_scaling import Llama3Scaling, RotaryScaling, YarnScaling

FACTORS = "rope_freqs.weight"
LONG, SHORT = "rope_factors_long.weight", "rope_factors_short.weight"
OURS = "congling.positions"
FACTORED = frozenset({"llama", "granite", "minicpm"})
"""Architectures that take tables of factors; the others refuse a file with one more tensor."""
TURNS = 32.0, 1.0
"""Within the original context, where the ramp of llama.cpp begins and ends."""
_MARGIN = 1e-3
"""Of a pair: corners nearer to a whole one may be rounded otherwise in 32 bits."""
_LEAST_CONTEXT, _MOST_CONTEXT = 7, 2**31
"""Below 2π · 1 turn the programs disagree on a ramp."""


class Told(Config):
    """What the key ``congling.positions`` holds, as JSON."""

    rope_theta: PositiveFloat
    rope_scaling: RotaryScaling | None = None


class Stretch(NamedTuple):
    """What a file says of stretched positions."""

    kind: str | None = None
    """``linear`` or ``yarn``."""
    factor: float = 1.0
    trained: int | None = None
    """The original context, of yarn."""
    growth: float = 1.0
    """What cosines and sines are multiplied by, besides yarn's own."""
    divisors: tuple[float, ...] | None = None
    """What frequencies are divided by, besides all else: D/2."""

    def fields(self) -> dict[str, Field]:
        """Its keys, behind the prefix of the architecture."""
        keys: dict[str, Field] = {}
        if self.kind is not None:
            keys["rope.scaling.type"] = Field("string", self.kind)
            keys["rope.scaling.factor"] = Field("f32", self.factor)
        if self.trained is not None:
            keys["rope.scaling.original_context_length"] = Field("u32", self.trained)
        if abs(self.growth - 1) > 1e-7:
            keys["rope.scaling.attn_factor"] = Field("f32", self.growth)
        return keys

    def stored(self) -> "Stretch":
        """The same as a reader finds it, numbers having gone through 32 bits."""
        divisors = None if self.divisors is None else tuple(map(in_32_bits, self.divisors))
        growth = 1.0 if "rope.scaling.attn_factor" not in self.fields() else in_32_bits(self.growth)
        return self._replace(factor=in_32_bits(self.factor), growth=growth, divisors=divisors)

    def near(self, other: "Stretch") -> bool:
        """Whether both are the same to 32 bits."""
        if (self.kind, self.trained) != (other.kind, other.trained):
            return False
        numbers = [(one.factor, one.growth, *(one.divisors or ())) for one in (self, other)]
        return len(numbers[0]) == len(numbers[1]) and bool(np.allclose(*numbers, rtol=1e-6, atol=0))


def in_32_bits(value: float) -> float:
    """The number that is read again where 32 bits were written, as ``GGUFFile.real`` reads it."""
    return float(str(np.float32(value)))


def own_growth(factor: float) -> float:
    """What llama.cpp multiplies cosines and sines by for yarn of this factor."""
    return 0.1 * math.log(factor) + 1


def yarn_context(scaling: YarnScaling, theta: float, turned: int) -> int | None:
    """The original context with which llama.cpp's ramp is this one: the model's own if it will do, else
    another whole number; ``None``: there is none.

    Ramps run between whole pairs, so that different turns within different contexts give the same one.
    """
    if not scaling.truncate:
        return None
    own, ramp = scaling.original_max_position_embeddings, scaling.ramp(theta, turned)
    low, high = int(ramp[0]), int(ramp[1])
    begin = max(
        _within(TURNS[1], high - 1, theta, turned), _within(TURNS[0], low, theta, turned) if low else 0
    )
    end = min(
        _within(TURNS[0], low + 1, theta, turned),
        _within(TURNS[1], high, theta, turned) if high < turned - 1 else _MOST_CONTEXT,
    )
    for length in (own, own / scaling.beta_slow, round(math.sqrt(begin * end)), math.ceil(begin), int(end)):
        whole = _LEAST_CONTEXT <= length < _MOST_CONTEXT and float(length).is_integer()
        if whole and _same_ramp(int(length), ramp, theta, turned):
            return int(length)
    return None


def _within(turns: float, pair: float, theta: float, turned: int) -> float:
    """Tokens within which this pair makes so many turns, at most those of a file."""
    logarithm = math.log(turns * 2 * math.pi) + 2 * pair / turned * math.log(theta)
    return math.exp(min(logarithm, math.log(_MOST_CONTEXT)))


def _same_ramp(length: int, ramp: tuple[float, float], theta: float, turned: int) -> bool:
    """Whether llama.cpp's ramp for this original context is ``ramp``, however it rounds."""
    for nudge in (-_MARGIN, _MARGIN):
        corners = [
            turned * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(theta)) + nudge
            for turns in TURNS
        ]
        low, high = max(math.floor(corners[0]), 0), min(math.ceil(corners[1]), turned - 1)
        if (low, high + 0.001 if low == high else high) != ramp:
            return False
    return True


def yarn_divisors(scaling: YarnScaling, theta: float, turned: int) -> np.ndarray:
    """What YaRN divides each frequency by: (D/2,)."""
    low, high = scaling.ramp(theta, turned)
    slow = np.clip((np.arange(turned // 2) - low) / (high - low), 0, 1)
    return 1 / (slow / scaling.factor + (1 - slow))


def llama3_divisors(scaling: Llama3Scaling, theta: float, turned: int) -> np.ndarray:
    """What Llama 3's scaling divides each frequency by: (D/2,)."""
    turns = theta ** (-np.arange(0, turned, 2) / turned) / (2 * math.pi)  # a token
    seen = turns * scaling.original_max_position_embeddings
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept = np.clip((seen - low) / (high - low), 0, 1)
    return 1 / ((1 - kept) / scaling.factor + kept)


def told(positions: RotaryConfig) -> Told:
    """Base and scaling, for our own key."""
    return Told(rope_theta=positions.rope_theta, rope_scaling=positions.rope_scaling)
