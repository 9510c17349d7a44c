"""Normalisation layers, by the ``kind`` of their configuration."""

from torch import nn

from congling.model.config import LayerNormConfig, RMSNormConfig


def build_norm(config: RMSNormConfig | LayerNormConfig, width: int) -> nn.Module:
    """A normalisation over the last ``width`` channels: (..., width) -> (..., width)."""
    match config.kind:
        case "rms":
            return nn.RMSNorm(width, eps=config.epsilon)
        case "layer":
            return nn.LayerNorm(width, eps=config.epsilon)
