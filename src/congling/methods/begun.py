"""What a run on shards was begun with: its recipe, which the same command asks for again."""

from collections.abc import Mapping
from typing import Any, TypeVar

from congling.core.artifact import write_text
from congling.core.config import Config, load
from congling.core.differences import require_same
from congling.core.errors import UserError
from congling.core.rundir import RunDirectory
from congling.plan.recipe import Recipe
from congling.report.record import RECIPE_FILE
from congling.train.runs.settings import ADVICE, BY_CONTENT, CUT, HARMLESS, changed, cut_again

C = TypeVar("C", bound=Config)


def config_of(kind: type[C], asked: Recipe, run: RunDirectory) -> C:
    """The configuration of a run that was begun from a recipe, with what may change taken from ``asked``.

    Raises:
        UserError: something else is asked for now, named with the values then and now; or the run was begun
            without a recipe.
    """
    config = load(kind, run.config, recorded=True)  # planned again, it would differ with the speed
    changes = _changes(asked, run, config.model_dump(mode="json")["train"])
    return config.replace(train=changes) if changes else config


def recipe_of(kind: type[Recipe], run: RunDirectory) -> Recipe:
    """The recipe that a run was begun with.

    Raises:
        UserError: it was begun without one, by a program.
    """
    if not (run.path / RECIPE_FILE).is_file():
        raise UserError(
            "this run was begun by a program, not from a recipe",
            where=run.path,
            hint="go on with that program, or choose another --out",
        )
    return load(kind, run.path / RECIPE_FILE, recorded=True)


def _changes(asked: Recipe, run: RunDirectory, train: Mapping[str, Any]) -> dict[str, object]:
    """Harmless keys of ``[train]`` with their new values, which ``recipe.toml`` says from then on."""
    before = recipe_of(type(asked), run)
    # Sources and what is made of them were compared as documents and shards; exports are warned of, no more.
    cut = cut_again(train, asked.train)
    harmless = HARMLESS | BY_CONTENT | {"samples", "exports"} | (CUT if cut is not None else set())
    require_same(before, asked, where=run.path, harmless=harmless, advice=ADVICE)
    changes = changed(before.train, asked.train) | (cut or {})
    recipe = before.replace(train=changes) if changes else before
    if asked.samples and asked.samples != before.samples:
        changes["sample_prompts"] = asked.samples
        recipe = recipe.replace(samples=asked.samples)
    if recipe != before:
        write_text(run.path / RECIPE_FILE, recipe.to_toml())
    return changes
