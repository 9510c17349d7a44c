"""One module a method, and what they share: recipes, the session, beginning and ending a run.

``congling.methods.sft.run`` and the like load a method when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from congling.methods import (
        distill,
        extend,
        grpo,
        ppo,
        preferences,
        pretrain,
        prune,
        quantize,
        recipes,
        reward_model,
        sft,
    )

__all__ = [
    "distill",
    "extend",
    "grpo",
    "ppo",
    "preferences",
    "pretrain",
    "prune",
    "quantize",
    "recipes",
    "reward_model",
    "sft",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
