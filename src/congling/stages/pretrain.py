"""Train a model on shards, from random weights; the same command goes on after an interruption.

Reads a shards directory and the tokenizer directory it was made with, writes a run directory::

    congling pretrain runs/book/shards --tokenizer runs/book/tokenizer --out runs/book/run train.steps=2000

Whatever the recipe leaves open (model, batch, rates, number of steps) is planned for the corpus, machine and
budget.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from congling.core import artifact
from congling.core.config import Config, build, load, read_toml, with_overrides
from congling.core.errors import UserError
from congling.data.segmentation import expected_growth
from congling.data.shards import Shards, beginnings, open_shards
from congling.model.config import ModelConfig, flops_per_token
from congling.tokenizer import store
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.parts import parts
from congling.train.config import TrainConfig
from congling.train.rundir import RunDirectory, require_same

if TYPE_CHECKING:
    from congling.data.batches import CorpusBatches
    from congling.plan.planning import Plan
    from congling.plan.recipe import Recipe
    from congling.train.run import RunParts

RECIPE_FILE = "recipe.toml"
PROMPTS, PROMPT_TOKENS = 3, 6
"""Beginnings of held-out documents that are continued in samples when the recipe names no prompts."""


class PretrainConfig(Config):
    """All that determines a pretraining run, besides its shards."""

    model: ModelConfig
    train: TrainConfig


@dataclass(frozen=True)
class Inputs:
    """Opened shards and the tokenizer they were made with."""

    shards: Shards
    tokenizer: Tokenizer
    tokenizer_path: Path


def command(
    shards: Annotated[Path, typer.Argument(help="A shards directory.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Values such as train.steps=2000 or model.layers=4.")
    ] = None,
    tokenizer: Annotated[
        Path, typer.Option(help="The tokenizer directory the shards were made with.")
    ] = Path("tokenizer"),
    out: Annotated[Path, typer.Option(help="The run directory to write, or to go on with.")] = Path("run"),
    recipe: Annotated[
        Path | None, typer.Option(help="A recipe (.toml); its data and tokenizer tables are not used.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Fail unless there is a checkpoint to go on from.")
    ] = False,
    force: Annotated[bool, typer.Option(help="Train even though the plan has an error.")] = False,
) -> None:
    """Train on shards, or go on with the run in --out."""
    from rich.console import Console

    from congling.plan.show import show_brief

    asked, inputs = read_recipe(recipe, overrides or []), open_inputs(shards, tokenizer)
    begin_or_go_on(
        asked, inputs, out, must_resume=resume, force=force, show=lambda plan: show_brief(plan, Console())
    )
    print(f"trained: {out}")


def begin_or_go_on(
    recipe: "Recipe", inputs: Inputs, out: Path, *, seconds: float | None = None, must_resume: bool = False,
    force: bool = False, show: "Callable[[Plan], None] | None" = None,
) -> RunDirectory:  # fmt: skip
    """Plan the recipe and train, or go on with the run in ``out`` by the plan it was begun with.

    Args:
        recipe: what is asked for; of a run begun before, the same must be asked.
        inputs: shards and tokenizer.
        out: the run directory.
        seconds: time to plan for, where it is not the recipe's whole budget.
        must_resume: fail where there is nothing to go on from.
        force: train even though the plan has an error.
        show: called with the plan before it is carried out.

    Raises:
        UserError: the plan has an error, or ``out`` holds another run.
        Interrupted: Ctrl-C; the state is saved.
    """
    from congling.train.backends import ddp

    # Of several processes one plans: measured speeds differ, and all must take the same steps.
    first, config, files = ddp.join(str(recipe.train.get("device", "auto"))), None, {}
    if first and RunDirectory(out).config.is_file():  # written after everything else a run starts with
        _require_same(recipe, out)
        config = _stored(out)
    elif first:
        planned = _planned(recipe, inputs, out, seconds=seconds, force=force, show=show)
        config = PretrainConfig(model=planned.model, train=planned.train)
        files = run_files(recipe, planned)
    said = ddp.from_first(config.model_dump_json() if config is not None else "")
    config = build(PretrainConfig, json.loads(said), where="the first process")
    return run(config, inputs, out, must_resume=must_resume, files=files)


def _planned(
    recipe: "Recipe", inputs: Inputs, out: Path, *, seconds: float | None, force: bool,
    show: "Callable[[Plan], None] | None",
) -> "Plan":  # fmt: skip
    """Plan a new run and show the plan.

    Raises:
        UserError: the plan has an error.
    """
    from congling.plan.planning import require_sound

    asked = recipe.replace(
        budget=recipe.budget if seconds is None else seconds, samples=prompts(recipe, inputs)
    )
    planned = plan(asked, inputs.shards, out)
    if show is not None:
        show(planned)
    if not force:
        require_sound(planned.findings)
    return planned


def open_inputs(shards: Path | str, tokenizer: Path | str) -> Inputs:
    """Open shards and tokenizer, checking that they belong together.

    Raises:
        UserError: one is missing or damaged, or they do not belong together.
    """
    opened = store.load(tokenizer)
    return Inputs(open_shards(shards, tokenizer=opened, verify=True), opened, Path(tokenizer))


def prompts(recipe: "Recipe", inputs: Inputs) -> tuple[str, ...]:
    """What to continue in samples: the recipe's prompts, or how some held-out documents begin."""
    held_out = inputs.shards["validation"]
    return recipe.samples or beginnings(held_out, inputs.tokenizer, documents=PROMPTS, tokens=PROMPT_TOKENS)


def read_recipe(path: Path | None, overrides: Sequence[str]) -> "Recipe":
    """Read a recipe for shards that exist already: its ``[data]`` says nothing any more, and may be left out.

    Raises:
        UserError: the recipe cannot be read or does not fit.
    """
    from congling.plan.recipe import Recipe

    values = with_overrides({} if path is None else read_toml(path), overrides)
    values.setdefault("data", {"sources": ["shards"]})
    return build(Recipe, values, where=path or "command line")


def plan(recipe: "Recipe", shards: Shards, out: Path | str) -> "Plan":
    """Plan the run, measure a real step of the planned model, and plan again with its speed.

    Raises:
        UserError: the recipe contradicts itself, or the model does not run here.
    """
    from congling.plan import planning
    from congling.plan.facts import facts_of_shards
    from congling.train.calibrate import measure, probe

    return planning.measured(recipe, facts_of_shards(shards), out, probe, measure)


def run_files(recipe: "Recipe", planned: "Plan") -> dict[str, str]:
    """What a run keeps of how it came about: the recipe as asked, and the plan."""
    from congling.plan.planning import PLAN_FILE

    return {PLAN_FILE: planned.to_text(), RECIPE_FILE: recipe.to_toml()}


def run(
    config: PretrainConfig, inputs: Inputs, out: Path | str, *,
    must_resume: bool = False, files: Mapping[str, str] | None = None,
) -> RunDirectory:  # fmt: skip
    """Train to the end and return the run's directory; starts from its newest checkpoint if there is one.

    Args:
        config: model and training.
        inputs: shards and tokenizer.
        out: the run directory.
        must_resume: fail where there is nothing to go on from.
        files: small texts kept in the run directory, by name.

    Raises:
        UserError: see :func:`congling.train.run.train`; or model and shards differ in vocabulary or context.
        Interrupted: Ctrl-C; the state is saved.
    """
    from congling.model.transformer import Transformer
    from congling.train.backends.ddp import build_backend
    from congling.train.loop import Trainer
    from congling.train.objectives.next_token import next_token
    from congling.train.run import train

    _require_fit(config, inputs.shards)
    settings = config.train
    transformer = Transformer(config.model)
    transformer.initialise(settings.seed)
    transformer.checkpoint_blocks(settings.checkpointing)
    backend = build_backend(settings)
    try:
        trainer = Trainer(
            transformer, _batches(inputs, settings), next_token, settings, backend,
            after_update=transformer.update_balance,
        )  # fmt: skip
        return train(trainer, out, _parts(config, inputs, trainer, files or {}), must_resume=must_resume)
    finally:
        backend.close()


def _require_fit(config: PretrainConfig, shards: Shards) -> None:
    """Compare model, rows and shards.

    Raises:
        UserError: they differ in vocabulary, or rows are longer than the model's context.
    """
    model, settings = config.model, config.train
    if model.vocab_size != shards.vocab_size:
        raise UserError(
            "model and shards have different vocabularies", value=(model.vocab_size, shards.vocab_size)
        )
    if settings.context > model.context:
        raise UserError(
            "train.context is longer than the model's",
            value=settings.context,
            hint=f"at most {model.context}",
        )


def _batches(inputs: Inputs, settings: TrainConfig) -> "CorpusBatches":
    from congling.data.batches import CorpusBatches

    return CorpusBatches(
        inputs.shards["train"],
        context=settings.context,
        rows=settings.rows,
        accumulation=settings.accumulation,
        seed=settings.seed,
        document_mask=settings.document_mask,
        split_pieces=settings.split_pieces,
        parts=parts(inputs.tokenizer) if settings.split_pieces else None,
        noise=settings.noise,
    )


def _parts(config: PretrainConfig, inputs: Inputs, trainer: Any, files: Mapping[str, str]) -> "RunParts":
    """What the run needs besides its trainer: inputs to compare, looks to take, yardsticks."""
    from congling.evals.collapse import watch
    from congling.evals.periodic import continuations, held_out_loss
    from congling.train.calibrate import matmul_peak
    from congling.train.metrics import Yardsticks
    from congling.train.run import RunParts

    split, validation = inputs.shards["train"], inputs.shards["validation"]
    settings, backend = config.train, trainer.backend
    # The loss is a mean over the tokens trained on, which are more than the file's where pieces fall apart.
    growth = expected_growth(split, parts(inputs.tokenizer), settings.split_pieces)
    yardsticks = Yardsticks(
        tokens_per_character=len(split.tokens) / max(1, int(split.characters.sum())) * growth,
        flops_per_token=flops_per_token(config.model, settings.context),
        matmul_peak=matmul_peak(backend.device, backend.dtype) if backend.rank == 0 else None,
    )
    return RunParts(
        config,
        parents={
            "shards": inputs.shards.artifact,
            "tokenizer": artifact.opened(inputs.tokenizer_path, "tokenizer"),
        },
        tokenizer=inputs.tokenizer_path,
        evaluate=held_out_loss(validation, settings) if len(validation.tokens) else None,
        sample=continuations(inputs.tokenizer, settings) if settings.sample_prompts else None,
        watch=watch,
        yardsticks=yardsticks,
        files=files,
    )


def _stored(out: Path) -> PretrainConfig:
    """The configuration a run was started with; planned again, it would differ with the measured speed."""
    return load(PretrainConfig, RunDirectory(out).config)


def _require_same(asked: "Recipe", out: Path) -> None:
    """Compare what is asked for now with what was asked for when the run began.

    Raises:
        UserError: they differ; the keys are named. Or the run was begun without a recipe, by :func:`run`.
    """
    if not (out / RECIPE_FILE).is_file():
        raise UserError(
            "this run was begun by a program, not from a recipe",
            where=out,
            hint="go on with that program, or choose another --out",
        )
    require_same(load(type(asked), out / RECIPE_FILE), asked, where=out)
