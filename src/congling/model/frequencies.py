"""How fast each pair of channels turns: the frequencies of rotary positions, stretched or not.

Everything is computed in float32, whatever the model's type: an angle is a position times a frequency, and
positions beyond 256 are not exact in bfloat16.
"""

# D head width, N lengths

import torch
from torch import Tensor
from torch.nn.functional import pad

from congling.model.config import RotaryConfig
from congling.model.rope_scaling import (
    DynamicScaling,
    LinearScaling,
    Llama3Scaling,
    LongRopeScaling,
    RotaryScaling,
    YarnScaling,
)


def rotary_frequencies(config: RotaryConfig, head_width: int, device: torch.device | str = "cpu") -> Tensor:
    """Radians that each channel pair turns by from one position to the next: (D/2,) float32.

    Of a kind that depends on the text's length: those within the trained length.
    """
    turned = config.rotary_dim(head_width)
    frequency = _scaled(_period(config, turned, device), config, turned)
    return pad(frequency, (0, (head_width - turned) // 2))  # the other pairs stand still


def frequencies_at(config: RotaryConfig, head_width: int, lengths: Tensor) -> Tensor:
    """The same for tokens that end texts of these lengths (N,): (N, D/2) float32. Not for CLEX, whose curve
    is learnt.
    """
    turned, scaling = config.rotary_dim(head_width), config.rope_scaling
    period = _period(config, turned, lengths.device)
    match scaling:
        case DynamicScaling(factor=factor, original_max_position_embeddings=trained):
            length = lengths.clamp_min(trained).cpu().double()
            growth = (factor * length / trained - (factor - 1)) ** (turned / (turned - 2))
            base = (config.rope_theta * growth).float().to(period.device)
            grown = base[:, None] ** _exponents(turned, period.device)
            found = 1 / torch.where((lengths > trained)[:, None], grown, period)
        case LongRopeScaling(short_factor=short, long_factor=long):
            factors = torch.tensor((short, long), dtype=torch.float32, device=lengths.device)
            found = 1 / (factors[(lengths > scaling.original_max_position_embeddings).long()] * period)
        case _:
            found = _scaled(period, config, turned).expand(len(lengths), -1)
    return pad(found, (0, (head_width - turned) // 2))


def magnitude(scaling: RotaryScaling | None) -> float:
    """What cosines and sines are multiplied by, of queries and keys: scores grow by its square."""
    return scaling.magnitude if isinstance(scaling, YarnScaling | LongRopeScaling) else 1.0


def _period(config: RotaryConfig, turned: int, device: torch.device | str) -> Tensor:
    """Positions that a plain pair needs to turn by one radian, (turned/2,)."""
    return config.rope_theta ** _exponents(turned, device)


def _exponents(turned: int, device: torch.device | str) -> Tensor:
    """Of the base, (turned/2,): rounded as in transformers, so that far positions are turned alike."""
    return torch.arange(0, turned, 2, dtype=torch.float32, device=device) / turned


def _scaled(period: Tensor, config: RotaryConfig, turned: int) -> Tensor:
    """The frequencies (turned/2,) within the trained length, in transformers' order of operations."""
    frequency = 1 / period
    match config.rope_scaling:
        case LinearScaling(factor=factor):
            return frequency / factor
        case Llama3Scaling(low_freq_factor=low, high_freq_factor=high) as scaling:
            turns = scaling.original_max_position_embeddings / (2 * torch.pi / frequency)
            kept = ((turns - low) / (high - low)).clamp(0, 1)  # 0 slow: divided, 1 fast: as it was
            return (1 - kept) * frequency / scaling.factor + kept * frequency
        case YarnScaling(factor=factor) as scaling:
            low, high = scaling.ramp(config.rope_theta, turned)
            pair = torch.arange(turned // 2, dtype=torch.float32, device=frequency.device)
            kept = 1 - ((pair - low) / (high - low)).clamp(0, 1)
            return 1 / (factor * period) * (1 - kept) + frequency * kept
        case LongRopeScaling(short_factor=short):
            return 1 / (torch.tensor(short, dtype=torch.float32, device=frequency.device) * period)
        case _:
            return frequency
