"""Recipe and configuration of the methods that learn from rewards; no torch: ``--help`` stays quick."""

from collections.abc import Sequence
from typing import TypeVar

from congling.methods.tuning_recipe import TuningConfig, TuningRecipe, read_recipe
from congling.train.objectives.config import RolloutConfig


class ReinforcementRecipe(TuningRecipe):
    """A tuning recipe with a ``[rollout]`` table and rewards."""

    rollout: RolloutConfig = RolloutConfig()
    rewards: tuple[str, ...] = ()
    """What says which answers are good; ``--reward`` adds to them."""


class ReinforcementConfig(TuningConfig):
    """All that determines the run, besides base and data."""

    rollout: RolloutConfig
    rewards: tuple[str, ...]


R = TypeVar("R", bound=ReinforcementRecipe)


def read_rewarded(kind: type[R], settings: Sequence[str], data: Sequence[str], rewards: Sequence[str]) -> R:
    """See :func:`congling.methods.tuning_recipe.read_recipe`; ``rewards`` are added to those of the recipe.

    Raises:
        UserError: settings and data do not fit, or there is no data.
    """
    recipe = read_recipe(kind, settings, data)
    return recipe.replace(rewards=(*recipe.rewards, *rewards))
