"""Recorded settings by the names that keys have now, so that a run of before is read like one of now."""

from collections.abc import Mapping
from typing import Any

from congling.core.config import Config, upgraded
from congling.core.renamed import with_new_keys
from congling.model.config import ModelConfig
from congling.plan.recipe import ModelRecipe
from congling.train.config import TrainConfig

_TABLES = {
    "adapter": ("AdapterConfig",),
    "preference": ("PreferenceConfig",),
    "reward": ("RewardConfig",),
    "rollout": ("RolloutConfig",),
    "grpo": ("GRPOConfig", "PolicyConfig"),
    "ppo": ("PPOConfig", "PolicyConfig"),
    "distill": ("DistillConfig",),
}
"""Tables of methods, and the names of their classes, some of which stand above this package."""


def config_of(recorded: Mapping[str, Any]) -> Mapping[str, Any]:
    """What ``config.toml`` of a run holds."""
    return _tables(recorded, {"train": TrainConfig, "model": ModelConfig})


def recipe_of(recorded: Mapping[str, Any]) -> Mapping[str, Any]:
    """What ``recipe.toml`` of a run holds, where the model is as a person asks for it."""
    return _tables(recorded, {"train": TrainConfig, "model": ModelRecipe})


def _tables(recorded: Mapping[str, Any], kinds: Mapping[str, type[Config]]) -> Mapping[str, Any]:
    found = with_new_keys(("SFTRecipe", "TuningRecipe"), recorded)
    for key, value in found.items():
        if isinstance(value, Mapping) and key in kinds:
            found[key] = upgraded(kinds[key], value)
        elif isinstance(value, Mapping) and key in _TABLES:
            found[key] = with_new_keys(_TABLES[key], value)
    return found
