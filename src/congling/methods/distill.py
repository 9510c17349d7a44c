"""Distillation: a student is trained on shards to match the probabilities of a teacher.

::

    shards ─ batches ─┬─ student ─┬─ divergence, and the next token's loss
                      └─ teacher ─┘             (with ``lmbda``, the student continues some rows itself)

Otherwise such a run is one of pretraining: planned from a recipe, begun from random or given weights.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from congling.core.errors import UserError
from congling.core.rundir import RunDirectory
from congling.data.batches import Batches, CorpusBatches
from congling.methods import inputs as opening
from congling.methods.base_model import open_base
from congling.methods.inputs import Inputs, require_same_tokenizer
from congling.methods.planned import begin_or_go_on
from congling.methods.pretrain import PretrainVariant
from congling.methods.recipes import DistillRecipe, DistillRunConfig
from congling.model.transformer import Transformer
from congling.plan.planning import Plan
from congling.train.backends.single import Single
from congling.train.loop import Objective
from congling.train.objectives.distill import distill
from congling.train.rl.on_policy_texts import OwnTextBatches

PREFIX_SHARE = 4
"""Share of the context, as a divisor, that rows continued by the student begin with."""


def read_recipe(path: Path | None, overrides: Sequence[str]) -> DistillRecipe:
    """A recipe for shards that exist already; its ``[data]`` may be left out.

    Raises:
        UserError: the recipe cannot be read or does not fit.
    """
    return opening.read_recipe(DistillRecipe, path, overrides)


def run(
    teacher: Path | str,
    recipe: DistillRecipe,
    inputs: Inputs,
    out: Path | str,
    *,
    student: Path | str | None = None,
    must_resume: bool = False,
    longer: str | None = None,
    force: bool = False,
    show: Callable[[Plan], None] | None = None,
    started: float | None = None,
) -> RunDirectory:
    """Plan and train, or go on with the run in ``out``.

    Args:
        teacher: a run or checkpoint.
        recipe: student, training and what is learnt from the teacher.
        inputs: shards and tokenizer.
        out: the run directory.
        student: a checkpoint or run to begin from; by default the teacher, where the recipe has a
            ``[quantization]`` table, else random weights.
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
    return begin_or_go_on(
        recipe,
        inputs,
        Path(out),
        must_resume=must_resume,
        longer=longer,
        force=force,
        show=show,
        variant=variant_of(teacher, recipe, inputs, student),
        started=started,
    )


def variant_of(
    teacher: Path | str, recipe: DistillRecipe, inputs: Inputs, student: Path | str | None = None
) -> PretrainVariant:
    """How the run differs from pretraining: a teacher in the objective, and the student's own texts.

    Raises:
        UserError: teacher and shards do not have one tokenizer.
    """
    opened, settings = open_base(teacher), recipe.distill
    require_same_tokenizer(opened, inputs, "teacher")
    frozen = opened.build(opened.model.max_position_embeddings).eval().requires_grad_(False)
    begun = teacher if student is None and recipe.quantization is not None else student

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

    return PretrainVariant(
        method="distill",
        start=None if begun is None else open_base(begun),
        parents={"teacher": opened.artifact},
        kind=DistillRunConfig,
        tables={"distill": settings, "quantization": recipe.quantization},
        context=opened.model.max_position_embeddings,
        reading=opened.reading,
        objective=objective,
        batches=batches if settings.lmbda else None,
    )
