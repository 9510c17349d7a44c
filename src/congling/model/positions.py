"""How a model knows the order of its tokens: rotary angles or biases inside attention, or a vector before it.

All kinds have the same two methods, so that the transformer need not know which one it holds: ``add``
changes the embedded tokens, ``context`` tells attention what it rotates queries and keys by, or turns what
each token may see into how much it does.
"""

# B batch, T time, S keys in sight, W width, H heads, D head width, C context

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from congling.model.config import (
    RotaryConfig,
)
from congling.model.frequencies import magnitude, rotary_frequencies

Angles = tuple[Tensor, Tensor]
"""Cosines and signed sines, each broadcastable to (B, T, H, D)."""


class Band(NamedTuple):
    """Neighbouring tokens that see through the same frequencies, and what turns the keys they see."""

    start: int
    end: int
    """Of the T tokens, these look."""
    angles: Angles | Callable[[], Angles]
    """Of all keys in sight of the last of them, itself included: (1 or B, S, 1, D); those of the tokens that
    look are the last. Or what computes them, each time anew."""


class AttentionContext(NamedTuple):
    """Where the tokens stand and which others they see: computed once, used by every block."""

    angles: Angles | None
    mask: Tensor | None
    """(B or 1, 1 or H, T, S): booleans, true where a query sees a key, or values added to the scores; None:
    decided by ``causal``."""
    causal: bool
    """Without a mask: each token sees itself and those before it (else all keys)."""
    lengths: tuple[int, ...] | None = None
    """Of the texts that share rows, where each is attended to by itself (``varlen.py``); ``mask`` and
    ``causal`` are then those of a row with one text."""
    bands: tuple[Band, ...] = ()
    """In place of ``angles`` where frequencies depend on the text's length (``length_positions.py``)."""


class _Positions:
    """What a kind of positions does unless it says otherwise: nothing."""

    def add(self, hidden: Tensor, positions: Tensor | slice) -> Tensor:
        """Leave the embedded tokens (B, T, W) as they are."""
        return hidden

    def context(
        self, seen: AttentionContext, positions: Tensor | slice, tokens: int, before: int
    ) -> AttentionContext:
        """What attention is told of these positions of ``tokens`` after ``before`` others: nothing more."""
        return seen


class RotaryPositions(_Positions, nn.Module):
    """Rotary positions (Su et al. 2021): channel pair ``i`` of a head turns by ``position / base^(2i/D)``.

    Half-split pairs ``(i, i + D/2)`` as in the Hugging Face Llama and Qwen: exported weights need no
    permutation.
    """

    _device_anchor: Tensor

    def __init__(self, config: RotaryConfig, head_width: int) -> None:
        super().__init__()
        self.config, self.head_width = config, head_width
        # Empty: it knows where the model is and in which type. There is no table of all angles: a forward
        # pass computes its own once for all blocks, and a file that claims a huge context costs nothing.
        self.register_buffer("_device_anchor", torch.empty(0), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._device_anchor.device

    def context(
        self, seen: AttentionContext, positions: Tensor | slice, tokens: int, before: int
    ) -> AttentionContext:
        """With the angles of these positions."""
        return seen._replace(angles=self.angles(positions))

    def angles(self, positions: Tensor | slice) -> Angles:
        """(T, 1, D) for a slice, (B, T, 1, D) for positions (B, T).

        Computed in float32 and rounded to the model's type.
        """
        device, dtype = self.device, self._device_anchor.dtype
        if isinstance(positions, slice):
            positions = torch.arange(positions.start, positions.stop, device=device)
        frequency = rotary_frequencies(self.config, self.head_width, device)
        grown = magnitude(self.config.rope_scaling)
        return signed_angles(positions[..., None, None].float(), frequency, grown, dtype)


class AlibiPositions(_Positions, nn.Module):
    """Attention with linear biases (Press et al. 2022): scores fall by ``slope · distance``."""

    slopes: Tensor

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.register_buffer("slopes", torch.tensor(alibi_slopes(heads)), persistent=False)

    def context(
        self, seen: AttentionContext, positions: Tensor | slice, tokens: int, before: int
    ) -> AttentionContext:
        """With a mask of values (B or 1, H, T, S) that are added to the scores; -inf: unseen.

        Distances are those between slots. Inside one text of a row, padded or packed, they equal those
        between positions.
        """
        mask = seen.mask
        slots = torch.arange(before + tokens, device=self.slopes.device)
        distance = slots - slots[before:, None]  # (T, S), 0 at the token itself and negative before it
        bias = self.slopes.float()[:, None, None] * distance
        if seen.causal:
            mask = distance <= 0
        if mask is not None:
            bias = torch.where(mask, bias, float("-inf"))
        bias = bias.to(self.slopes.dtype).view(-1, *bias.shape[-3:])
        return seen._replace(mask=bias, causal=False)


class LearnedPositions(_Positions, nn.Embedding):
    """A table of one learned vector a position, added to the token embedding (GPT-2)."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__(context, width)

    def add(self, hidden: Tensor, positions: Tensor | slice) -> Tensor:
        """Add the position vectors: (B, T, W) -> (B, T, W)."""
        return hidden + self.weight[positions]


def alibi_slopes(heads: int) -> list[float]:
    """How much each head's scores fall with one token of distance: a geometric series (Press et al. 2022).

    For a number of heads that is no power of two, the remaining ones take every second slope of the series
    twice as long, as the authors' code does.
    """
    power = 1 << (heads.bit_length() - 1)
    first = [2.0 ** (-8 * (head + 1) / power) for head in range(power)]
    return first + [2.0 ** (-4 * (2 * head + 1) / power) for head in range(heads - power)]


def signed_angles(positions: Tensor, frequency: Tensor, magnitude: float, dtype: torch.dtype) -> Angles:
    """Cosines and signed sines (…, D) at positions (…, 1), grown by the magnitude where a pair turns."""
    angle = positions * frequency
    cosine, sine = angle.cos(), angle.sin()
    if magnitude != 1:
        grown = torch.where(frequency > 0, magnitude, 1.0)  # channels that do not turn stay as they are
        cosine, sine = cosine * grown, sine * grown
    cosine, sine = cosine.to(dtype), sine.to(dtype)
    # The sign of the rotation matrix lives here: `rotate` then works on whole heads, not on halves.
    return torch.cat((cosine, cosine), -1), torch.cat((-sine, sine), -1)


def rotate(x: Tensor, angles: Angles | None) -> Tensor:
    """Turn every channel pair of each head by its position's angle: (B, T, H, D) -> (B, T, H, D)."""
    assert angles is not None
    cosines, sines = angles
    first, second = x.chunk(2, dim=-1)
    # Each channel meets its partner; the sign of the rotation matrix is in `sines`.
    return x * cosines + torch.cat((second, first), dim=-1) * sines


def no_rotation(x: Tensor, angles: Angles | None) -> Tensor:
    """Stand in for ``rotate`` where positions are not rotary."""
    return x
