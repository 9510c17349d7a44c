"""A run on shards from a recipe: planned and begun, or resumed by the plan it was begun with."""

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path

from congling.core.config import build
from congling.core.interrupt import stopping_said
from congling.core.lock import only_writer
from congling.core.rundir import RunDirectory
from congling.data.shards import Shards
from congling.infer.reading import MASK
from congling.methods.begun import config_of
from congling.methods.continuing import continued, require_begun
from congling.methods.inputs import Inputs, prompts
from congling.methods.memory import measured
from congling.methods.pretrain import PLAIN, PretrainVariant, require_one_tokenizer, run
from congling.model.config import ModelConfig
from congling.plan import planning
from congling.plan.advice_numbers import BUILDING_SECONDS
from congling.plan.corpus_facts import facts_of_shards
from congling.plan.cost import NOTHING_YET, Beside
from congling.plan.deadline import deadline_of
from congling.plan.planning import PLAN_FILE, Plan, require_sound
from congling.plan.recipe import Recipe
from congling.report import pages, record
from congling.report.record import RECIPE_FILE
from congling.train import calibrate
from congling.train.backends import ddp
from congling.train.config import TrainConfig
from congling.train.measurement import Calibration

MEASURED = 3.0
"""Seconds of real steps that a plan is measured with, at most."""


def begin_or_go_on(
    recipe: Recipe,
    inputs: Inputs,
    out: Path,
    *,
    started: float | None = None,
    reported: bool = False,
    must_resume: bool = False,
    longer: str | None = None,
    force: bool = False,
    show: Callable[[Plan], None] | None = None,
    variant: PretrainVariant = PLAIN,
) -> RunDirectory:
    """Plan the recipe and train, or go on with the run in ``out`` by the plan it was begun with.

    Args:
        recipe: what is asked for; of a run begun before, the same must be asked.
        inputs: shards and tokenizer.
        out: the run directory.
        started: ``time.monotonic()`` from which the budget counts; by default now.
        reported: whether the budget also has to hold a final score, texts and a report.
        must_resume: fail where there is nothing to go on from.
        longer: by how much the run is to end later than it does, such as ``30m`` or ``2000steps``.
        force: train even though the plan has an error.
        show: called with the plan before it is carried out.
        variant: what differs from pretraining random weights.

    Raises:
        UserError: the plan has an error, ``out`` holds another run or another process works in it, the start
            has another tokenizer, or the run cannot be made longer.
        Interrupted: Ctrl-C; the state is saved.
    """
    started = time.monotonic() if started is None else started
    require_one_tokenizer(inputs, variant)
    # Of several processes one plans: measured speeds differ, and all must take the same steps.
    first, config, files = ddp.join(*_place(recipe)), None, {}
    kept = stopping_said("the run was planned or trained", f"what is finished in {out} is kept")
    with kept, ddp.together(), only_writer(out, once=True) if first else contextlib.nullcontext():
        directory = RunDirectory(out)
        if first and directory.config.is_file():  # written after everything else a run starts with
            config = continued(config_of(variant.kind, recipe, directory), directory, longer)
        elif first:
            require_begun(directory, must_resume=must_resume, longer=longer)
            beside = Beside(time.monotonic() - started, BUILDING_SECONDS, reported)
            planned = _planned(recipe, inputs, out, beside=beside, force=force, show=show, variant=variant)
            deadline = deadline_of(planned, recipe, reported=reported)
            config = variant.kind(
                model=planned.model, train=planned.train, deadline=deadline, **variant.tables
            )
            files = run_files(recipe, planned, variant)
        said = ddp.broadcast_text(config.model_dump_json() if config is not None else "")
        config = build(variant.kind, json.loads(said), where="the first process")
        made = run(
            config, inputs, out, must_resume=must_resume, files=files, variant=variant, started=started
        )
        if first:
            pages.write(record.read(made.path), made.path / "report")
        return made


def _place(recipe: Recipe) -> tuple[str, float]:
    """Device and patience of processes that train together, as the recipe has them."""
    wanted = TrainConfig.model_fields
    device, timeout = (recipe.train.get(key, wanted[key].default) for key in ("device", "ddp_timeout"))
    usable = isinstance(timeout, int | float) and timeout > 0  # else the plan says what is wrong with it
    return str(device), float(timeout) if usable else wanted["ddp_timeout"].default


def _planned(
    recipe: Recipe,
    inputs: Inputs,
    out: Path,
    *,
    beside: Beside,
    force: bool,
    show: Callable[[Plan], None] | None,
    variant: PretrainVariant,
) -> Plan:
    """Plan a new run and show the plan.

    Raises:
        UserError: the plan has an error.
    """
    reading = variant.reading or (None if variant.start is None else variant.start.reading)
    # What it learns from was trained on such rows; on others it would start worse than it is.
    kept = {MASK: True} if reading is not None and reading.document_mask else {}
    asked = recipe.replace(samples=prompts(recipe, inputs), train=kept | dict(recipe.train))
    planned = plan(asked, inputs.shards, out, variant, beside=beside)
    if show is not None:
        show(planned)
    if not force:
        require_sound(planned.findings)
    return planned


def plan(
    recipe: Recipe,
    shards: Shards,
    out: Path | str,
    variant: PretrainVariant = PLAIN,
    *,
    beside: Beside = NOTHING_YET,
) -> Plan:
    """Plan the run, measure a real step of the planned model, and plan again with its speed.

    ``beside`` is what the budget has to hold besides training.

    Raises:
        UserError: the recipe contradicts itself, or the model does not run here.
    """

    def timed(model: ModelConfig, train: TrainConfig) -> Calibration:
        return measured(model, train, variant.objective, seconds=seconds)

    seconds = MEASURED if recipe.budget is None else min(MEASURED, recipe.budget / 60)
    start = variant.start
    return planning.measured(
        recipe,
        facts_of_shards(shards),
        out,
        calibrate.probe,
        timed,
        start=None if start is None else start.model,
        trained_length=None if start is None else start.trained_length,
        beside=beside,
    )


def run_files(recipe: Recipe, planned: Plan, variant: PretrainVariant = PLAIN) -> dict[str, str]:
    """What a run keeps of how it came about: the recipe as asked, and the plan."""
    return {PLAN_FILE: planned.to_text(variant.described()), RECIPE_FILE: recipe.to_toml()}
