"""Recipe and configuration of the methods that learn from rewards; no torch: ``--help`` stays quick."""

from congling.methods.recipe import TuningConfig, TuningRecipe
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
