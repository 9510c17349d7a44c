"""Rotary positions stretched from 64 tokens to 256: in every static way, and in those by the length."""

import math
from typing import Any

import torch

from congling.model.families import FAMILIES
from congling.model.rope_scaling import ntk_theta
from congling.model.transformer import Transformer

TRAINED, CONTEXT, PAIRS, VOCABULARY = 64, 256, 16, 160
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": TRAINED}
_SPECTRUM = tuple(1 + 6 * pair / 15 for pair in range(PAIRS))
_LONGROPE = {
    "rope_type": "longrope", "factor": 4.0, "original_max_position_embeddings": TRAINED,
    "short_factor": _SPECTRUM, "long_factor": _SPECTRUM,
}  # fmt: skip
STATIC: dict[str, dict[str, Any]] = {
    "linear": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    "ntk": {"rope_theta": ntk_theta(1e4, 4, 2 * PAIRS)},
    "llama3": {
        "rope_scaling": {"rope_type": "llama3", "factor": 4.0, "original_max_position_embeddings": TRAINED}
    },
    "yarn": {"rope_scaling": _YARN},
    "yarn, another ramp": {"rope_scaling": _YARN | {"beta_fast": 8.0, "beta_slow": 0.25}},
    "yarn, not truncated": {"rope_scaling": _YARN | {"truncate": False}},
    "yarn, two scales": {"rope_scaling": _YARN | {"mscale": 0.7, "mscale_all_dim": 1.2}},
    "by parts": {"rope_scaling": _YARN | {"attention_factor": 1.0}},
    "a spectrum": {"rope_scaling": _LONGROPE | {"attention_factor": 1.0}},
    "longrope": {"rope_scaling": _LONGROPE},
}
BY_LENGTH: dict[str, dict[str, Any]] = {
    "dynamic": {
        "rope_scaling": {"rope_type": "dynamic", "factor": 4.0, "original_max_position_embeddings": TRAINED}
    },
    "longrope with two sets": {"rope_scaling": _LONGROPE | {"short_factor": (1.0,) * PAIRS}},
}


def stretched(family: str, positions: dict[str, Any], **sizes: Any) -> Transformer:
    """A model whose weights are as large as trained ones, so that positions matter."""
    settings: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "max_position_embeddings": CONTEXT,
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "num_attention_heads": 2,
    }
    model = Transformer(FAMILIES[family](**settings | sizes).replace(positions=positions)).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            scale = 1.2 / math.sqrt(tensor.shape[-1]) if tensor.dim() > 1 else 0.1
            tensor.copy_(torch.randn(tensor.shape) * scale + name.endswith("norm.weight"))
    return model
