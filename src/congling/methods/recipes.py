"""The recipe of each method: its configuration, with defaults and what it inherits; imports no torch.

A recipe has the tables a person may write. A run's configuration has the same tables with nothing left open::

    SFTRecipe   data, adapter, [train] in part, epochs, template …   ─ decided ─   SFTConfig, kept in the run
"""

from collections.abc import Sequence
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, Field, NonNegativeFloat, PositiveFloat, model_validator

from congling.core.addresses import refuse_address
from congling.core.complaints import Table
from congling.core.config import Config, build, read_toml, with_overrides
from congling.core.errors import UserError
from congling.core.text import readable
from congling.core.words import separate
from congling.data.config import DataConfig, LossReduction
from congling.model.config import ModelConfig
from congling.plan.recipe import Recipe
from congling.quant.config import RtnConfig, TrainedConfig
from congling.train.config import TrainConfig, checked_train
from congling.train.objectives.config import (
    GRPOConfig,
    PPOConfig,
    PPORolloutConfig,
    PreferenceConfig,
    RolloutConfig,
)
from congling.train.objectives.distill_config import DistillConfig
from congling.train.runs.deadline import DeadlineConfig
from congling.transform.config import AdapterConfig, LongLoRAConfig


def _without_test(data: DataConfig) -> DataConfig:
    if data.split.test:
        raise ValueError(
            "data.split.test is for training from scratch: rows have no test split. Keep questions for the "
            "final score in a file of their own, and name it to `congling eval --data`"
        )
    return data


Rows = Annotated[DataConfig, AfterValidator(_without_test)]
"""What is learnt from, and what is held out of it for validation."""


def _with_own_positions(train: TrainConfig) -> TrainConfig:
    if train.position_sampling not in (None, "none"):
        raise ValueError(f"position_sampling = {train.position_sampling} is for pretrain and sft")
    return train


Train = Annotated[TrainConfig, AfterValidator(_with_own_positions)]
"""``[train]`` of methods whose rows keep the positions they have."""


class PretrainConfig(Config):
    """All that determines a pretraining run, besides its shards."""

    model: ModelConfig
    train: TrainConfig
    deadline: DeadlineConfig | None = None
    """When it has to be over, where a budget was given; steps and the fall of the rate then follow the
    clock."""
    quantization: TrainedConfig | None = None


class DistillRecipe(Recipe):
    """A recipe as for pretraining, with a ``[distill]`` table."""

    distill: DistillConfig = DistillConfig()


class DistillRunConfig(PretrainConfig):
    """All that determines the run, besides its shards and its teacher."""

    train: Train
    distill: DistillConfig


class TuningRecipe(Config):
    """What every tuning method is asked; whatever ``[train]`` leaves open follows from base and data."""

    data: Rows
    adapter: AdapterConfig | None = None
    """Low-rank factors beside a frozen base; left out, the weights themselves are trained."""
    train: Annotated[dict[str, Any], Table(TrainConfig)] = Field(default_factory=dict)
    """Any key of ``[train]``."""
    num_train_epochs: float = Field(default=3.0, gt=0, le=1e6)
    """Passes over the rows, where ``train.max_steps`` says nothing."""


class TuningConfig(Config):
    """All that determines a tuning run, besides the contents of base and data."""

    data: Rows
    adapter: AdapterConfig | None = None
    train: Train


class SFTRecipe(TuningRecipe):
    """A tuning recipe with what only ``sft`` has."""

    template: str | None = None
    """Chat template to learn in place of the base's own: ``chatml``, ``llama2``, ``llama3``, ``qwen``,
    ``chatglm``, ``none``, or Jinja source."""
    neftune_noise_alpha: PositiveFloat | None = None
    """Noise on embeddings while training (NEFTune): its length for one example, 5 to 15 in the paper."""
    longlora: LongLoRAConfig | None = None
    """Attention in shifted groups while training."""
    loss_reduction: LossReduction = "token"
    """What weighs the same: each learnt token, or each ``answer``, however long."""
    quantization: RtnConfig | None = None
    """Train the linear layers of the blocks in few bits; left out, in floats. Excludes ``adapter``."""


class SFTConfig(TuningConfig):
    """All that determines an ``sft`` run."""

    train: TrainConfig
    template: str | None = None
    neftune_noise_alpha: PositiveFloat | None = None
    longlora: LongLoRAConfig | None = None
    loss_reduction: LossReduction = "token"
    quantization: RtnConfig | None = None

    @model_validator(mode="after")
    def _whole_weights(self) -> Self:
        if self.quantization is not None and self.adapter is not None:
            raise ValueError(
                "quantization trains whole weights in few bits; beside an adapter the base is put in few "
                "bits by adapter.base_quantization, or by congling quantize"
            )
        return self


class PreferenceRecipe(TuningRecipe):
    """A tuning recipe with a ``[preference]`` table."""

    preference: PreferenceConfig = PreferenceConfig()


class PreferenceRunConfig(TuningConfig):
    """All that determines a ``dpo`` run."""

    preference: PreferenceConfig


class RewardConfig(Config):
    """Table ``[reward]``."""

    center_rewards_coefficient: NonNegativeFloat = 0.01
    """How strongly rewards are kept around zero."""


class RewardRecipe(TuningRecipe):
    """A tuning recipe with a ``[reward]`` table."""

    reward: RewardConfig = RewardConfig()


class RewardRunConfig(TuningConfig):
    """All that determines a ``reward`` run."""

    reward: RewardConfig


class ReinforcementRecipe(TuningRecipe):
    """A tuning recipe with a ``[rollout]`` table and rewards."""

    rollout: RolloutConfig = RolloutConfig()
    rewards: tuple[str, ...] = ()
    """What says which answers are good; ``--reward`` adds to them."""


class ReinforcementConfig(TuningConfig):
    """All that determines a run on rewards."""

    rollout: RolloutConfig
    rewards: tuple[str, ...]


class GRPORecipe(ReinforcementRecipe):
    """A recipe with a ``[grpo]`` table."""

    grpo: GRPOConfig = GRPOConfig()


class GRPORunConfig(ReinforcementConfig):
    """All that determines a ``grpo`` run."""

    grpo: GRPOConfig


class PPORecipe(ReinforcementRecipe):
    """A recipe with a ``[ppo]`` table; rollouts are used several times."""

    rollout: PPORolloutConfig = PPORolloutConfig()  # pyright: ignore[reportIncompatibleVariableOverride] frozen
    ppo: PPOConfig = PPOConfig()


class PPORunConfig(ReinforcementConfig):
    """All that determines a ``ppo`` run."""

    rollout: PPORolloutConfig  # pyright: ignore[reportIncompatibleVariableOverride] frozen
    ppo: PPOConfig


R = TypeVar("R", bound=TuningRecipe)


def read_recipe(
    kind: type[R], settings: Sequence[str], data: Sequence[str], rewards: Sequence[str] = ()
) -> R:
    """A recipe file, ``key=value`` overrides and data files as one configuration.

    Args:
        kind: of the recipe.
        settings: at most one recipe file, overrides, and further data files.
        data: data files.
        rewards: added to those of the recipe, where its kind has any.

    Raises:
        UserError: they do not fit, or there is no data.
    """
    for one in data:
        refuse_address(one)
    inputs, overrides = separate(settings)
    recipes = [one for one in inputs if one.suffix == ".toml"]
    named = [readable(str(one)) for one in inputs if one not in recipes]
    sources = [*map(readable, data), *named]
    if len(recipes) > 1:
        raise UserError("one recipe at a time", value=" ".join(map(str, recipes)))
    values = with_overrides(read_toml(recipes[0]) if recipes else {}, overrides)
    table = values.get("data", {})
    if not isinstance(table, dict):
        raise UserError(
            "data is a table, its files are its sources", value=f"data={table}", hint="name files with --data"
        )
    if sources:
        values["data"] = table = {**table, "sources": sources}
    if not table.get("sources"):
        raise UserError("nothing to learn from", hint="name rows or texts with --data")
    recipe = build(kind, values, where=recipes[0] if recipes else "command line")
    from congling.plan.tuning_plan import KINDS

    checked_train(recipe.train, KINDS)
    if isinstance(recipe, ReinforcementRecipe) and rewards:
        return recipe.replace(rewards=(*recipe.rewards, *rewards))
    return recipe
