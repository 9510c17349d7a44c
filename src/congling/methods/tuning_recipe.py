"""What a person asks of a tuning run, and all that determines one; every method adds a table of its own."""

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field

from congling.core.addresses import refuse_address
from congling.core.complaints import Table
from congling.core.config import Config, build, read_toml, with_overrides
from congling.core.errors import UserError
from congling.core.text import readable
from congling.core.words import separate
from congling.data.config import DataConfig
from congling.model.config import ModelConfig
from congling.train.config import TrainConfig, checked_train
from congling.train.runs.deadline import DeadlineConfig
from congling.transform.config import AdapterConfig


def _without_test(data: DataConfig) -> DataConfig:
    if data.split.test:
        raise ValueError(
            "data.split.test is for training from scratch: rows have no test split. Keep questions for the "
            "final score in a file of their own, and name it to `congling eval --data`"
        )
    return data


Rows = Annotated[DataConfig, AfterValidator(_without_test)]
"""What is learnt from, and what is held out of it for validation."""


class PretrainConfig(Config):
    """All that determines a pretraining run, besides its shards."""

    model: ModelConfig
    train: TrainConfig
    deadline: DeadlineConfig | None = None
    """When it has to be over, where a budget was given; steps and the fall of the rate then follow the
    clock."""


class TuningRecipe(Config):
    """What a person asks for; whatever ``[train]`` leaves open follows from base and data."""

    data: Rows
    adapter: AdapterConfig | None = None
    """Low-rank factors beside a frozen base; left out, the weights themselves are trained."""
    train: Annotated[dict[str, Any], Table(TrainConfig)] = Field(default_factory=dict)
    """Any key of ``[train]``."""
    num_train_epochs: float = Field(default=3.0, gt=0, le=1e6)
    """Passes over the rows, where ``train.max_steps`` says nothing."""


class TuningConfig(Config):
    """All that determines the run, besides the contents of base and data."""

    data: Rows
    adapter: AdapterConfig | None = None
    train: TrainConfig


R = TypeVar("R", bound=TuningRecipe)


def read_recipe(kind: type[R], settings: Sequence[str], data: Sequence[str]) -> R:
    """A recipe file, ``key=value`` overrides and data files as one configuration.

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
    return build(kind, values, where=recipes[0] if recipes else "command line")


def require_sound_table(recipe: TuningRecipe) -> None:
    """Name mistakes in ``[train]`` before anything follows from it; steps and context may be left open.

    Raises:
        UserError: the table has a mistake.
    """
    from congling.plan.tuning_plan import KINDS

    checked_train(recipe.train, KINDS)
