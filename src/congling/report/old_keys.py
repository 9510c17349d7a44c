"""Recorded settings by the names that keys have now, so that a run of before is read like one of now."""

import re
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
_CHOSEN = ("model", "model.options", "train")
"""Tables of what the plan of a pretraining run chooses, without saying of which table a key is."""
_KEY = re.compile(rf"\b(?:model|train|{'|'.join(_TABLES)})(?:\.[a-z_]+)+")


def config_of(recorded: Mapping[str, Any]) -> Mapping[str, Any]:
    """What ``config.toml`` of a run holds."""
    return _tables(recorded, {"train": TrainConfig, "model": ModelConfig})


def recipe_of(recorded: Mapping[str, Any]) -> Mapping[str, Any]:
    """What ``recipe.toml`` of a run holds, where the model is as a person asks for it."""
    return _tables(recorded, {"train": TrainConfig, "model": ModelRecipe})


def plan_of(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """What ``plan.json`` of a run holds: settings, which of them were given, and what was said of them."""
    found = dict(_tables(recorded, {"train": TrainConfig, "model": ModelConfig}))
    if isinstance(given := found.get("given"), list):
        found["given"] = [_dotted(str(one)) for one in given]
    for name in ("choices", "findings"):
        if isinstance(rows := found.get(name), list):
            found[name] = [_row(row) if isinstance(row, Mapping) else row for row in rows]
    return found


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A choice, whose key is one of the model or of training, or a finding, whose words name keys."""
    found = {
        name: _KEY.sub(lambda key: _dotted(key[0]), text) if isinstance(text, str) else text
        for name, text in row.items()
    }
    if isinstance(key := found.get("key"), str):
        tries = (_dotted(f"{table}.{key}").rpartition(".")[2] for table in _CHOSEN)
        found["key"] = next((one for one in tries if one != key), key)
    return found


def _dotted(key: str) -> str:
    """A dotted key by the name of now."""
    *path, last = key.split(".")
    table: dict[str, Any] = {last: None}
    for part in reversed(path):
        table = {part: table}
    now: Any = _tables(table, {"train": TrainConfig, "model": ModelRecipe})
    names = []
    while isinstance(now, Mapping) and now:
        name, now = next(iter(now.items()))
        names.append(name)
    return ".".join(names)


def _tables(recorded: Mapping[str, Any], kinds: Mapping[str, type[Config]]) -> Mapping[str, Any]:
    found = with_new_keys(("SFTRecipe", "TuningRecipe"), recorded)
    for key, value in found.items():
        if isinstance(value, Mapping) and key in kinds:
            found[key] = upgraded(kinds[key], value)
        elif isinstance(value, Mapping) and key in _TABLES:
            found[key] = with_new_keys(_TABLES[key], value)
    return found
