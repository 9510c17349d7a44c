"""Runs on shards: planned from a recipe, begun from random weights or from a checkpoint, and gone on with.

Pretraining and distillation differ in what is minimised and where texts come from; that is their ``Task``.
"""

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from congling.core import artifact
from congling.core.artifact import Artifact
from congling.core.config import Config, build, read_toml, with_overrides
from congling.core.errors import UserError
from congling.core.interrupt import stopping_said
from congling.core.lock import only_writer
from congling.core.rundir import RunDirectory
from congling.data.openings import openings
from congling.data.shards import Shards, open_shards
from congling.data.token_splitting import expected_growth
from congling.infer.reading import MASK, Reading
from congling.methods.begun import config_of
from congling.methods.continuing import continued, require_begun
from congling.methods.tuning_recipe import PretrainConfig
from congling.model.config import flops_per_token
from congling.plan.advice_numbers import BUILDING_SECONDS
from congling.plan.cost import NOTHING_YET, Beside
from congling.plan.recipe import Recipe
from congling.report.budget import deadline_of
from congling.report.record import RECIPE_FILE
from congling.tokenizer import store
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.token_parts import token_parts
from congling.train.config import TrainConfig
from congling.train.runs.deadline import Deadline

if TYPE_CHECKING:
    import torch

    from congling.data.batches import Batches, CorpusBatches
    from congling.methods.base_model import OpenedBase
    from congling.model.config import ModelConfig
    from congling.model.transformer import Transformer
    from congling.plan.planning import Plan
    from congling.train.backends.single import Single
    from congling.train.loop import Objective
    from congling.train.measurement import Calibration
    from congling.train.runs.train import RunParts

PROMPTS = 3
"""Openings of held-out documents that are continued in samples when the recipe names no prompts."""
MEASURED = 3.0
"""Seconds of real steps that a plan is measured with, at most."""
R = TypeVar("R", bound=Recipe)


@dataclass(frozen=True)
class Inputs:
    """Opened shards and the tokenizer they were made with."""

    shards: Shards
    tokenizer: Tokenizer
    tokenizer_path: Path


@dataclass(frozen=True)
class PretrainVariant:
    """In what a run on shards differs from pretraining random weights; by default in nothing."""

    method: str = "pretrain"
    """The command."""
    start: "OpenedBase | None" = None
    """The model whose weights are begun from."""
    parents: Mapping[str, Artifact] = field(default_factory=dict)
    """Inputs besides the start, shards and tokenizer, by name."""
    kind: type[PretrainConfig] = PretrainConfig
    tables: Mapping[str, Config] = field(default_factory=dict)
    """What ``kind`` holds besides model and training."""
    objective: "Callable[[torch.device], Objective] | None" = None
    """What is minimised, made for a device; by default the next token's loss."""
    context: int | None = None
    """Longest row that all models which take part can read; by default any."""
    reading: Reading | None = None
    """How the teacher, if there is one, was trained to read; by default that of the start."""
    batches: "Callable[[CorpusBatches, Transformer, Single], Batches] | None" = None
    """Batches that depend on the model's weights, made from those of the corpus."""

    def described(self) -> dict[str, Any]:
        """What the run keeps of it, besides its plan."""
        found: dict[str, Any] = {"method": self.method}
        if self.start is not None:
            found["base"] = {"path": str(self.start.path)}
        if "teacher" in self.parents:
            found["teacher"] = str(self.parents["teacher"].path)
        return found


PLAIN = PretrainVariant()


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
    show: "Callable[[Plan], None] | None" = None,
    task: PretrainVariant = PLAIN,
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
        task: what differs from pretraining random weights.

    Raises:
        UserError: the plan has an error, ``out`` holds another run or another process works in it, the start
            has another tokenizer, or the run cannot be made longer.
        Interrupted: Ctrl-C; the state is saved.
    """
    from congling.report import pages, record
    from congling.train.backends import ddp

    started = time.monotonic() if started is None else started
    _require_one_tokenizer(inputs, task)
    # Of several processes one plans: measured speeds differ, and all must take the same steps.
    first, config, files = ddp.join(*_place(recipe)), None, {}
    kept = stopping_said("the run was planned or trained", f"what is finished in {out} is kept")
    with kept, ddp.together(), only_writer(out, once=True) if first else contextlib.nullcontext():
        directory = RunDirectory(out)
        if first and directory.config.is_file():  # written after everything else a run starts with
            config = continued(config_of(task.kind, recipe, directory), directory, longer)
        elif first:
            require_begun(directory, must_resume=must_resume, longer=longer)
            beside = Beside(time.monotonic() - started, BUILDING_SECONDS, reported)
            planned = _planned(recipe, inputs, out, beside=beside, force=force, show=show, task=task)
            deadline = deadline_of(planned, recipe, reported=reported)
            config = task.kind(model=planned.model, train=planned.train, deadline=deadline, **task.tables)
            files = run_files(recipe, planned, task)
        said = ddp.broadcast_text(config.model_dump_json() if config is not None else "")
        config = build(task.kind, json.loads(said), where="the first process")
        made = run(config, inputs, out, must_resume=must_resume, files=files, task=task, started=started)
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
    show: "Callable[[Plan], None] | None",
    task: PretrainVariant,
) -> "Plan":
    """Plan a new run and show the plan.

    Raises:
        UserError: the plan has an error.
    """
    from congling.plan.planning import require_sound

    reading = task.reading or (None if task.start is None else task.start.reading)
    # What it learns from was trained on such rows; on others it would start worse than it is.
    kept = {MASK: True} if reading is not None and reading.document_mask else {}
    asked = recipe.replace(samples=prompts(recipe, inputs), train=kept | dict(recipe.train))
    planned = plan(asked, inputs.shards, out, task, beside=beside)
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


def prompts(recipe: Recipe, inputs: Inputs) -> tuple[str, ...]:
    """What to continue in samples: the recipe's prompts, or how paragraphs of held-out documents begin."""
    return recipe.samples or openings(inputs.shards["validation"], inputs.tokenizer, documents=PROMPTS)


def read_recipe(kind: type[R], path: Path | None, overrides: Sequence[str]) -> R:
    """Read a recipe for shards that exist already: its ``[data]`` says nothing any more, and may be left out.

    Raises:
        UserError: the recipe cannot be read or does not fit.
    """
    values = with_overrides({} if path is None else read_toml(path), overrides)
    values.setdefault("data", {"sources": ["shards"]})
    return build(kind, values, where=path or "command line")


def plan(
    recipe: Recipe,
    shards: Shards,
    out: Path | str,
    task: PretrainVariant = PLAIN,
    *,
    beside: Beside = NOTHING_YET,
) -> "Plan":
    """Plan the run, measure a real step of the planned model, and plan again with its speed.

    ``beside`` is what the budget has to hold besides training.

    Raises:
        UserError: the recipe contradicts itself, or the model does not run here.
    """
    from congling.methods.memory import measured
    from congling.plan import planning
    from congling.plan.corpus_facts import facts_of_shards
    from congling.train.calibrate import probe

    def timed(model: "ModelConfig", train: TrainConfig) -> "Calibration":
        return measured(model, train, task.objective, seconds=seconds)

    seconds = MEASURED if recipe.budget is None else min(MEASURED, recipe.budget / 60)
    start = None if task.start is None else task.start.model
    return planning.measured(recipe, facts_of_shards(shards), out, probe, timed, start=start, beside=beside)


def run_files(recipe: Recipe, planned: "Plan", task: PretrainVariant = PLAIN) -> dict[str, str]:
    """What a run keeps of how it came about: the recipe as asked, and the plan."""
    from congling.plan.planning import PLAN_FILE

    return {PLAN_FILE: planned.to_text(task.described()), RECIPE_FILE: recipe.to_toml()}


def run(
    config: PretrainConfig,
    inputs: Inputs,
    out: Path | str,
    *,
    must_resume: bool = False,
    files: Mapping[str, str] | None = None,
    task: PretrainVariant = PLAIN,
    started: float | None = None,
) -> RunDirectory:
    """Train to the end and return the run's directory; starts from its newest checkpoint if there is one.

    Args:
        config: model and training.
        inputs: shards and tokenizer.
        out: the run directory.
        must_resume: fail where there is nothing to go on from.
        files: small texts kept in the run directory, by name.
        task: what differs from pretraining random weights.
        started: ``time.monotonic()`` from which the time of a deadline counts; by default now.

    Raises:
        UserError: see :func:`congling.train.runs.train.train`; or model and shards differ in vocabulary or
            context.
        Interrupted: Ctrl-C; the state is saved.
    """
    from congling.methods.memory import shortage_explained
    from congling.train.backends.ddp import build_backend
    from congling.train.loop import Trainer
    from congling.train.objectives.next_token import next_token
    from congling.train.runs.train import train

    _require_fit(config, inputs.shards, task)
    _require_one_tokenizer(inputs, task)
    settings = config.train
    transformer = _model(config, task)
    transformer.checkpoint_blocks(settings.gradient_checkpointing)
    backend = build_backend(settings)
    try:
        corpus = _batches(inputs, settings)
        batches = corpus if task.batches is None else task.batches(corpus, transformer, backend)
        objective = next_token if task.objective is None else task.objective(backend.device)
        trainer = Trainer(
            transformer,
            batches,
            objective,
            settings,
            backend,
            after_update=transformer.update_balance,
            deadline=config.deadline and Deadline(config.deadline, settings, started=started),
            ahead=2 if task.batches is None else 0,
        )
        parts = _parts(config, inputs, trainer, files or {}, task)
        with shortage_explained(config.model, settings, backend, trainer=trainer):
            return train(trainer, out, parts, must_resume=must_resume)
    finally:
        backend.close()


def _model(config: PretrainConfig, task: PretrainVariant) -> "Transformer":
    """Random weights, or those of the start.

    Raises:
        UserError: the start is another model than the run was begun with.
    """
    from congling.model.transformer import Transformer

    transformer = Transformer(config.model)
    if task.start is None:
        transformer.initialise(config.train.seed)
    elif task.start.model.replace(dropout=config.model.dropout) != config.model:
        raise UserError(
            "this run was made from other start weights",
            where=task.start.path,
            hint="give the checkpoint it was started with, or choose another --out",
        )
    else:
        transformer.load_state_dict(task.start.build(config.train.max_length).state_dict())
    return transformer


def _require_one_tokenizer(inputs: Inputs, task: PretrainVariant) -> None:
    """Compare the tokenizer of the start with that of the shards.

    Raises:
        UserError: they differ, or the start is a GGUF file.
    """
    if task.start is not None:
        require_same_tokenizer(task.start, inputs, "checkpoint")


def require_same_tokenizer(model: "OpenedBase", inputs: Inputs, role: str) -> None:
    """Compare the tokenizer of a model that takes part in a run with that of the shards.

    Raises:
        UserError: they differ, or the model is a GGUF file, whose tokenizer has no fingerprint.
    """
    if model.packed:
        raise UserError(
            f"a GGUF file cannot be the {role} here",
            where=model.path,
            hint="bring it here first: congling import",
        )
    if model.tokenizer.fingerprint != inputs.tokenizer.fingerprint:
        raise UserError(
            f"the {role} has another tokenizer than the shards",
            where=model.path,
            value=model.tokenizer.fingerprint[:12],
            hint=f"tokenize the documents with that of the {role}: {model.artifact.path / 'tokenizer'}",
        )
    if model.model.vocab_size != inputs.shards.vocab_size:
        raise UserError(
            f"the {role} has another vocabulary than the shards",
            where=model.path,
            value=(model.model.vocab_size, inputs.shards.vocab_size),
        )


def _require_fit(config: PretrainConfig, shards: Shards, task: PretrainVariant) -> None:
    """Compare model, rows and shards.

    Raises:
        UserError: they differ in vocabulary, or rows are longer than the model's or teacher's context.
    """
    model, settings = config.model, config.train
    if model.vocab_size != shards.vocab_size:
        raise UserError(
            "model and shards have different vocabularies", value=(model.vocab_size, shards.vocab_size)
        )
    if settings.max_length > model.max_position_embeddings:
        raise UserError(
            "train.max_length is longer than the model's",
            value=settings.max_length,
            hint=f"at most {model.max_position_embeddings}",
        )
    if task.context is not None and settings.max_length > task.context:
        raise UserError(
            "train.max_length is longer than the teacher's",
            value=settings.max_length,
            hint=f"train.max_length={task.context}",
        )


def _batches(inputs: Inputs, settings: TrainConfig) -> "CorpusBatches":
    from congling.data.batches import CorpusBatches

    return CorpusBatches(
        inputs.shards["train"],
        context=settings.max_length,
        rows=settings.per_device_train_batch_size,
        accumulation=settings.gradient_accumulation_steps,
        seed=settings.seed,
        document_mask=settings.document_mask,
        split_pieces=settings.token_split_prob,
        parts=token_parts(inputs.tokenizer) if settings.token_split_prob else None,
        noise=settings.token_noise_prob,
    )


def _parts(
    config: PretrainConfig, inputs: Inputs, trainer: Any, files: Mapping[str, str], task: PretrainVariant
) -> "RunParts":
    """What the run needs besides its trainer: inputs to compare, looks to take, yardsticks."""
    from congling.evals.collapse import watch
    from congling.evals.periodic import continuations, held_out_loss
    from congling.train.calibrate import matmul_peak
    from congling.train.runs.metrics import MetricScales
    from congling.train.runs.train import RunParts

    split, validation = inputs.shards["train"], inputs.shards["validation"]
    settings, backend = config.train, trainer.backend
    # The loss is a mean over the tokens trained on, which are more than the file's where pieces fall apart.
    growth = expected_growth(split, token_parts(inputs.tokenizer), settings.token_split_prob)
    yardsticks = MetricScales(
        tokens_per_character=len(split.tokens) / max(1, int(split.characters.sum())) * growth,
        flops_per_token=flops_per_token(config.model, settings.max_length),
        matmul_peak=matmul_peak(backend.device, backend.dtype) if backend.rank == 0 else None,
    )
    parents = {"shards": inputs.shards.artifact}
    parents["tokenizer"] = artifact.opened(inputs.tokenizer_path, "tokenizer")
    if task.start is not None:
        parents["start"] = task.start.artifact
    return RunParts(
        config,
        parents=parents | dict(task.parents),
        facts=Reading(settings.max_length, settings.document_mask).facts()
        | ({"chat": True} if task.start is not None and task.start.chat else {}),
        tokenizer=inputs.tokenizer_path,
        evaluate=held_out_loss(validation, settings) if len(validation.tokens) else None,
        sample=continuations(inputs.tokenizer, settings) if settings.sample_prompts else None,
        watch=watch,
        yardsticks=yardsticks,
        files=files,
    )
