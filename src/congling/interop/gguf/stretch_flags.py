"""Options of llama.cpp's programs that stretch the positions of a base which is not stretched in its file.

A file with an adapter says nothing of positions, so that whoever loads it on the base of before needs them.
"""

import math

from congling.model.config import ModelConfig
from congling.model.rope_scaling import LinearScaling, YarnScaling


def flags(config: ModelConfig) -> str | None:
    """The options, empty where nothing is stretched; None: there are none that do it.

    The programs take the ramp of YaRN here that they pass over in files, but multiply scores by its own
    factor whatever ``--yarn-attn-factor`` says.
    """
    match config.positions.rope_scaling if config.positions.kind == "rope" else None:
        case None:
            return ""
        case LinearScaling(factor=factor):
            return f"--rope-scaling linear --rope-scale {factor:g}"
        case YarnScaling(factor=factor) as scaling if scaling.truncate:
            if not math.isclose(scaling.magnitude, 0.1 * math.log(factor) + 1, rel_tol=1e-6):
                return None
            said = f"--rope-scaling yarn --rope-scale {factor:g} "
            said += f"--yarn-orig-ctx {scaling.original_max_position_embeddings}"
            if (scaling.beta_fast, scaling.beta_slow) != (32, 1):
                said += f" --yarn-beta-fast {scaling.beta_fast:g} --yarn-beta-slow {scaling.beta_slow:g}"
            return said
        case _:
            return None


def note(config: ModelConfig) -> str | None:
    """What to tell with an adapter for this base; None where nothing is stretched."""
    given = flags(config)
    if given == "":
        return None
    way = "use the base converted from here, which says it itself"
    if given is not None:
        way = f"{way}, or give llama.cpp {given}"
    return f"the file does not say how the positions of its base are stretched: {way}"
