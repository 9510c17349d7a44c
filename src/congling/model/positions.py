"""How a model knows the order of its tokens: rotary angles inside attention, or a learned vector before it.

Both kinds have the same two methods, so that the transformer need not know which one it holds:
``add`` changes the embedded tokens, ``angles`` gives attention what it rotates queries and keys by.
"""

# B batch, T time, W width, H heads, D head width, C context

import torch
from torch import Tensor, nn

from congling.model.config import LearnedPositionsConfig, ModelConfig, RotaryConfig

Angles = tuple[Tensor, Tensor]
"""Cosines and signed sines, each broadcastable to (B, T, H, D)."""


class RotaryPositions(nn.Module):
    """Rotary positions (Su et al. 2021): channel pair ``i`` of a head turns by ``position / base^(2i/D)``.

    Half-split pairs ``(i, i + D/2)`` as in the Hugging Face Llama and Qwen: exported weights need no
    permutation.
    """

    cosines: Tensor
    sines: Tensor

    def __init__(self, head_width: int, context: int, base: float) -> None:
        super().__init__()
        self.head_width, self.base = head_width, base
        cosines, sines = self._table(context)
        # Not saved: the two tables follow from the configuration.
        self.register_buffer("cosines", cosines, persistent=False)
        self.register_buffer("sines", sines, persistent=False)

    def _table(self, context: int) -> Angles:
        frequency = self.base ** (-torch.arange(0, self.head_width, 2, dtype=torch.float32) / self.head_width)
        angle = torch.outer(torch.arange(context, dtype=torch.float32), frequency)  # (C, D/2)
        cosine, sine = angle.cos(), angle.sin()
        # The sign of the rotation matrix lives in the table: `rotate` then works on whole heads, not on
        # halves.
        return torch.cat((cosine, cosine), -1), torch.cat((-sine, sine), -1)

    def add(self, hidden: Tensor, positions: Tensor | slice) -> Tensor:
        """Leave the embedded tokens as they are."""
        return hidden

    def angles(self, positions: Tensor | slice) -> Angles:
        """Tables for these positions: (T, 1, D) for a slice, (B, T, 1, D) for positions (B, T)."""
        return self.cosines[positions].unsqueeze(-2), self.sines[positions].unsqueeze(-2)


class LearnedPositions(nn.Embedding):
    """A table of one learned vector a position, added to the token embedding (GPT-2)."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__(context, width)

    def add(self, hidden: Tensor, positions: Tensor | slice) -> Tensor:
        """Add the position vectors: (B, T, W) -> (B, T, W)."""
        return hidden + self.weight[positions]

    def angles(self, positions: Tensor | slice) -> None:
        """Nothing to rotate by."""
        return None


def rotate(x: Tensor, angles: Angles | None) -> Tensor:
    """Turn every channel pair of each head by its position's angle: (B, T, H, D) -> (B, T, H, D)."""
    assert angles is not None
    cosines, sines = angles
    first, second = x.chunk(2, dim=-1)
    # Each channel meets its partner; the sign of the rotation matrix is in `sines`.
    return x * cosines + torch.cat((second, first), dim=-1) * sines


def keep(x: Tensor, angles: Angles | None) -> Tensor:
    """Stand in for ``rotate`` where positions are not rotary."""
    return x


def build_positions(config: ModelConfig) -> RotaryPositions | LearnedPositions:
    """The positions part that the configuration asks for."""
    match config.positions:
        case RotaryConfig():
            return RotaryPositions(config.attention.head_width, config.context, config.positions.base)
        case LearnedPositionsConfig():
            return LearnedPositions(config.width, config.context)
