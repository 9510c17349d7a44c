"""Named sizes, from a toy that trains in seconds to 300 M parameters; widths are multiples of 64 for export.

Parameters below are those of the Qwen3 family with a vocabulary of 8192 and tied embeddings, unless a
family is named. Widths that are multiples of 256 can be stored in GGUF's k-quants
(``ModelConfig.k_quant_safe``).
"""

from collections.abc import Mapping
from typing import Any

from congling.core.errors import UserError
from congling.model.config import ModelConfig
from congling.model.families import FAMILIES

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "nano": {"layers": 2, "width": 64},  #  0.6 M
    "micro": {"layers": 4, "width": 128},  #  1.8 M
    "tiny": {"layers": 6, "width": 192},  #  4.2 M
    "mini": {"layers": 6, "width": 256},  #  6.8 M
    "small": {"layers": 8, "width": 384},  # 17.3 M
    "base": {"layers": 10, "width": 512},  # 35.7 M
    "medium": {"layers": 16, "width": 768},  # 120 M
    "124m": {"family": "gpt2", "layers": 12, "width": 768, "heads": 12},  # GPT-2 small: with 50257 tokens
    "300m": {"layers": 24, "width": 1024, "head_width": 64},  # 310 M
    "classic": {"family": "llama", "layers": 16, "width": 256, "heads": 8, "tied": False},  # llama.cpp's
}


def preset(
    name: str, *, vocab_size: int, context: int, family: str | None = None, **changes: Any
) -> ModelConfig:
    """A model of a named size; ``family`` and other keywords of the family's function replace the preset's.

    Raises:
        UserError: there is no such preset or family.
    """
    if name not in PRESETS:
        raise UserError("no such model size", value=name, hint=f"one of: {', '.join(PRESETS)}")
    values = {**PRESETS[name], **changes}
    chosen = values.pop("family", "qwen3") if family is None else family
    values.pop("family", None)
    if chosen not in FAMILIES:
        raise UserError("no such model family", value=chosen, hint=f"one of: {', '.join(FAMILIES)}")
    return FAMILIES[chosen](vocab_size=vocab_size, context=context, **values)
