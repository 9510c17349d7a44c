"""Train a small model on shards to say what a larger one would; the same command goes on where it stopped.

Reads a teacher (a run or checkpoint), shards and their tokenizer, which must be the teacher's; writes a run
directory::

    congling distill runs/large shards --tokenizer tokenizer --out small model.num_hidden_layers=2
    congling distill runs/large shards --tokenizer tokenizer --student pruned --out recovered

Without ``--student`` the student's weights are random and its size is planned, as in pretraining.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from congling.core import machine
from congling.methods.options import AsJson, Fresh, Longer
from congling.methods.tuning_recipe import PretrainConfig
from congling.plan.recipe import Recipe
from congling.train.objectives.distill_config import DistillConfig

if TYPE_CHECKING:
    from congling.core.rundir import RunDirectory
    from congling.methods.inputs import Inputs
    from congling.methods.pretrain import PretrainVariant
    from congling.plan.planning import Plan

PREFIX_SHARE = 4
"""Share of the context, as a divisor, that rows continued by the student begin with."""


class DistillRecipe(Recipe):
    """What a person asks for: a recipe as for pretraining, with one table more."""

    distill: DistillConfig = DistillConfig()


class DistillRunConfig(PretrainConfig):
    """All that determines the run, besides its shards and its teacher."""

    distill: DistillConfig


def command(
    teacher: Annotated[Path, typer.Argument(help="A run or checkpoint with the tokenizer of the shards.")],
    shards: Annotated[Path, typer.Argument(help="A shards directory.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Values such as model.num_hidden_layers=2 or distill.temperature=2."),
    ] = None,
    tokenizer: Annotated[
        Path, typer.Option(help="The tokenizer directory the shards were made with.")
    ] = Path("tokenizer"),
    out: Annotated[Path, typer.Option(help="The run directory to write, or to go on with.")] = Path("run"),
    student: Annotated[
        Path | None, typer.Option(help="A checkpoint or run to begin from, such as a pruned model.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="A recipe (.toml); its data and tokenizer tables are not used.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Fail unless there is a checkpoint to go on from.")
    ] = False,
    longer: Longer = None,
    fresh: Fresh = False,
    force: Annotated[bool, typer.Option(help="Train even though the plan has an error.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a small model to say what a larger one would."""
    from congling.core.console import Console
    from congling.methods.ending import show_run_end
    from congling.methods.fresh import begin_anew
    from congling.methods.inputs import open_inputs
    from congling.plan.show import show_brief
    from congling.train.runs.longer import finish

    started = machine.command_started()
    asked = read_recipe(recipe, overrides or [])
    inputs = open_inputs(shards, tokenizer)
    begin_anew(out, teacher, shards, tokenizer, student, fresh=fresh, resume=resume, longer=longer)
    directory = run(
        teacher,
        asked,
        inputs,
        out,
        student=student,
        must_resume=resume,
        longer=longer,
        force=force,
        show=lambda plan: show_brief(plan, Console()),
        started=started,
    )
    finish(directory)
    show_run_end(out, started=started, as_json=as_json)


def read_recipe(path: Path | None, overrides: Sequence[str]) -> DistillRecipe:
    """A recipe for shards that exist already; its ``[data]`` may be left out.

    Raises:
        UserError: the recipe cannot be read or does not fit.
    """
    from congling.methods import inputs

    return inputs.read_recipe(DistillRecipe, path, overrides)


def run(
    teacher: Path | str,
    recipe: DistillRecipe,
    inputs: "Inputs",
    out: Path | str,
    *,
    student: Path | str | None = None,
    must_resume: bool = False,
    longer: str | None = None,
    force: bool = False,
    show: "Callable[[Plan], None] | None" = None,
    started: float | None = None,
) -> "RunDirectory":
    """Plan and train, or go on with the run in ``out``.

    Args:
        teacher: a run or checkpoint.
        recipe: student, training and what is learnt from the teacher.
        inputs: shards and tokenizer.
        out: the run directory.
        student: a checkpoint or run to begin from.
        must_resume: fail where there is nothing to go on from.
        longer: by how much the run that is there is to end later, such as ``30m`` or ``2000steps``.
        force: train even though the plan has an error.
        show: called with the plan before it is carried out.
        started: ``time.monotonic()`` from which a budget counts; by default now.

    Raises:
        UserError: teacher, student and shards do not have one tokenizer, the plan has an error, or ``out``
            holds another run.
        Interrupted: Ctrl-C; the state is saved.
    """
    from congling.methods.planned import begin_or_go_on

    variant = variant_of(teacher, recipe, inputs, student)
    return begin_or_go_on(
        recipe,
        inputs,
        Path(out),
        must_resume=must_resume,
        longer=longer,
        force=force,
        show=show,
        variant=variant,
        started=started,
    )


def variant_of(
    teacher: Path | str, recipe: DistillRecipe, inputs: "Inputs", student: Path | str | None = None
) -> "PretrainVariant":
    """How the run differs from pretraining: a teacher in the objective, and the student's own texts.

    Raises:
        UserError: teacher and shards do not have one tokenizer.
    """
    import torch

    from congling.core.errors import UserError
    from congling.data.batches import Batches, CorpusBatches
    from congling.methods import pretrain
    from congling.methods.base_model import open_base
    from congling.methods.inputs import require_same_tokenizer
    from congling.model.transformer import Transformer
    from congling.train.backends.single import Single
    from congling.train.loop import Objective
    from congling.train.objectives.distill import distill
    from congling.train.rl.on_policy_texts import OwnTextBatches

    opened, settings = open_base(teacher), recipe.distill
    require_same_tokenizer(opened, inputs, "teacher")
    frozen = opened.build(opened.model.max_position_embeddings).eval().requires_grad_(False)

    def objective(device: torch.device) -> Objective:
        return distill(frozen.to(device), settings)

    def batches(corpus: CorpusBatches, model: Transformer, backend: Single) -> Batches:
        prefix = settings.prefix_tokens or max(1, corpus.context // PREFIX_SHARE)
        if prefix > corpus.context:
            raise UserError(
                "distill.prefix_tokens is longer than a row", value=prefix, hint=f"at most {corpus.context}"
            )
        return OwnTextBatches(
            corpus,
            model,
            share=settings.lmbda,
            prefix=prefix,
            seed=corpus.seed,
            backend=backend,
            undrawable=inputs.tokenizer.undrawable(model.config.vocab_size),
        )

    return pretrain.PretrainVariant(
        method="distill",
        start=None if student is None else open_base(student),
        parents={"teacher": opened.artifact},
        kind=DistillRunConfig,
        tables={"distill": settings},
        context=opened.model.max_position_embeddings,
        reading=opened.reading,
        objective=objective,
        batches=batches if settings.lmbda else None,
    )
