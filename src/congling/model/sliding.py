"""Attention through a sliding window: blocks of one type see only the last tokens (Beltagy et al. 2020).

::

    window 3      query ╲ key   a b c d e
                      a         ■
                      b         ■ ■
                      c         ■ ■ ■
                      d           ■ ■ ■
                      e             ■ ■ ■
"""

# B batch, T new tokens, S keys in sight

from collections.abc import Callable

import torch
from torch import Tensor, nn

from congling.model.config import ModelConfig, RotaryConfig
from congling.model.positions import AttentionContext, RotaryPositions

Narrowing = Callable[[AttentionContext, Tensor | slice, int, int], AttentionContext]


class SlidingContext(nn.Module):
    """What blocks with a window see of what the others see, and their own rotary positions."""

    def __init__(self, window: int, positions: RotaryConfig, head_width: int) -> None:
        super().__init__()
        self.window = window
        local = positions
        if positions.rope_local_base_freq is not None:
            local = positions.replace(rope_theta=positions.rope_local_base_freq, rope_scaling=None)
        self.positions = RotaryPositions(local, head_width)

    def forward(
        self, context: AttentionContext, place: Tensor | slice, tokens: int, before: int
    ) -> AttentionContext:
        """Narrow the context of ``tokens`` after ``before`` others; both count slots, padding too.

        Distances are those between slots: inside one text of a row, padded or packed, they equal those
        between positions.
        """
        context = context._replace(angles=self.positions.angles(place))
        if before + tokens <= self.window:
            return context
        slots = torch.arange(before + tokens, device=self.positions.device)
        query = slots[before:, None]
        near = slots > query - self.window  # (T, S)
        mask = near & (slots <= query) if context.mask is None else near & context.mask
        return context._replace(mask=mask.view(-1, 1, *near.shape), causal=False)


def build_sliding(config: ModelConfig) -> Narrowing:
    """The context of blocks with a window; without any, nothing is narrowed."""
    window = config.attention.sliding_window
    if window is None or not isinstance(config.positions, RotaryConfig):
        return unnarrowed
    return SlidingContext(window, config.positions, config.attention.head_dim)


def unnarrowed(
    context: AttentionContext, place: Tensor | slice, tokens: int, before: int
) -> AttentionContext:
    """Stand in for ``SlidingContext`` where no block has a window."""
    return context
