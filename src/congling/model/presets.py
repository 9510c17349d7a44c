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
    "nano": {"num_hidden_layers": 2, "hidden_size": 64},  #  0.6 M
    "micro": {"num_hidden_layers": 4, "hidden_size": 128},  #  1.8 M
    "tiny": {"num_hidden_layers": 6, "hidden_size": 192},  #  4.2 M
    "mini": {"num_hidden_layers": 6, "hidden_size": 256},  #  6.8 M
    "small": {"num_hidden_layers": 8, "hidden_size": 384},  # 17.3 M
    "base": {"num_hidden_layers": 10, "hidden_size": 512},  # 35.7 M
    "medium": {"num_hidden_layers": 16, "hidden_size": 768},  # 120 M
    "124m": {
        "family": "gpt2",
        "num_hidden_layers": 12,
        "hidden_size": 768,
        "num_attention_heads": 12,
    },  # GPT-2 small: with 50257 tokens
    "300m": {"num_hidden_layers": 24, "hidden_size": 1024, "head_dim": 64},  # 310 M
    "classic": {
        "family": "llama",
        "num_hidden_layers": 16,
        "hidden_size": 256,
        "num_attention_heads": 8,
        "tie_word_embeddings": False,
    },  # llama.cpp's
}


def preset(
    name: str, *, vocab_size: int, max_position_embeddings: int, family: str | None = None, **changes: Any
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
    return FAMILIES[chosen](vocab_size=vocab_size, max_position_embeddings=max_position_embeddings, **values)
