"""From a configuration to its kind of positions."""

from congling.model.clex import ClexPositions
from congling.model.config import AlibiConfig, LearnedPositionsConfig, ModelConfig, RotaryConfig
from congling.model.length_positions import LengthPositions
from congling.model.positions import AlibiPositions, LearnedPositions, RotaryPositions
from congling.model.rope_scaling import ClexScaling


def build_positions(config: ModelConfig) -> RotaryPositions | AlibiPositions | LearnedPositions:
    """The positions part that the configuration asks for."""
    match config.positions:
        case RotaryConfig(rope_scaling=ClexScaling()):
            return ClexPositions(config.positions, config.attention.head_dim)
        case RotaryConfig() if config.depends_on_length:
            return LengthPositions(config.positions, config.attention.head_dim)
        case RotaryConfig():
            return RotaryPositions(config.positions, config.attention.head_dim)
        case AlibiConfig():
            return AlibiPositions(config.attention.num_attention_heads)
        case LearnedPositionsConfig():
            return LearnedPositions(config.hidden_size, config.max_position_embeddings)
