"""小世界: an original, endless corpus of small documents that knows its facts, its form and its entropy."""

from congling.data.smallworld.entropy import entropy_floor
from congling.data.smallworld.generator import generate

__all__ = ["entropy_floor", "generate"]
