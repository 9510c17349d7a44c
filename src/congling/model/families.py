"""Model families as a few lines of configuration each; a family is a choice of parts, not a class.

Every function takes the sizes by name and fills in the family's habits for what is left out. An
argument that a family does not have is a ``TypeError``, sizes that contradict each other are pydantic's
``ValidationError``.
"""

from collections.abc import Callable

from congling.model.config import ModelConfig
from congling.model.dense_families import (
    baichuan,
    gemma3,
    glm,
    glm4,
    gpt2,
    llama,
    mistral,
    olmo2,
    qwen2,
    qwen3,
)
from congling.model.moe_families import deepseek_moe, deepseek_moe_v1, mixtral, qwen3_moe

FAMILIES: dict[str, Callable[..., ModelConfig]] = {
    "qwen3": qwen3,
    "llama": llama,
    "gpt2": gpt2,
    "qwen3-moe": qwen3_moe,
    "deepseek-moe": deepseek_moe,
    "mistral": mistral,
    "qwen2": qwen2,
    "baichuan": baichuan,
    "mixtral": mixtral,
    "deepseek-moe-v1": deepseek_moe_v1,
    "olmo2": olmo2,
    "glm": glm,
    "glm4": glm4,
    "gemma3": gemma3,
}
