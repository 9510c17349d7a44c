"""Fixed factors on what flows through a model, from maximal update parametrisation (Granite, MiniCPM)."""

from torch import Tensor, nn


class Multiplier(nn.Module):
    """``x * factor``; nothing is learned."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """(...) -> (...)."""
        return x * self.factor


def build_multiplier(factor: float) -> nn.Module:
    """Multiplication by ``factor``, and nothing at all for 1."""
    return nn.Identity() if factor == 1 else Multiplier(factor)
