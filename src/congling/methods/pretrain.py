"""Training on shards, from random weights or from a checkpoint.

Pretraining and distillation differ in what is minimised and where texts come from: a ``PretrainVariant``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from congling.core import artifact
from congling.core.artifact import Artifact
from congling.core.errors import UserError
from congling.core.rundir import RunDirectory
from congling.data.batches import Batch, Batches, CorpusBatches
from congling.data.token_splitting import expected_growth
from congling.evals.collapse import watch
from congling.evals.periodic import continuations, held_out_loss
from congling.infer.reading import Reading, extension_after
from congling.methods.base_model import OpenedBase, open_base
from congling.methods.inputs import Inputs, batches_of, require_fit, require_same_tokenizer
from congling.methods.memory import shortage_explained
from congling.methods.recipes import PretrainConfig
from congling.model.checkpoint import save_model
from congling.model.counts import flops_per_token
from congling.model.transformer import Transformer
from congling.plan.quantisation import AT_ONCE, TOKENS
from congling.plan.recipe import Recipe
from congling.quant.config import FACT, OneBitConfig
from congling.quant.walk import Rows
from congling.tokenizer.token_parts import token_parts
from congling.train.backends import ddp
from congling.train.backends.single import Single
from congling.train.calibrate import matmul_peak
from congling.train.loop import Objective, Trainer
from congling.train.objectives.next_token import next_token
from congling.train.positions import longest_of, sampling_of
from congling.train.runs.deadline import Deadline
from congling.train.runs.metrics import MetricScales
from congling.train.runs.train import RunParts, train
from congling.transform.fake import made_of, saving, train_in_few_bits


@dataclass(frozen=True)
class PretrainVariant:
    """In what a run on shards differs from pretraining random weights; by default in nothing."""

    method: str = "pretrain"
    """The command."""
    start: OpenedBase | None = None
    """The model whose weights are begun from."""
    parents: Mapping[str, Artifact] = field(default_factory=dict)
    """Inputs besides the start, shards and tokenizer, by name."""
    kind: type[PretrainConfig] = PretrainConfig
    tables: Mapping[str, Any] = field(default_factory=dict)
    """What ``kind`` holds besides model and training."""
    objective: Callable[[torch.device], Objective] | None = None
    """What is minimised, made for a device; by default the next token's loss."""
    context: int | None = None
    """Longest row that all models which take part can read; by default any."""
    reading: Reading | None = None
    """How the teacher, if there is one, was trained to read; by default that of the start."""
    batches: Callable[[CorpusBatches, Transformer, Single], Batches] | None = None
    """Batches that depend on the model's weights, made from those of the corpus."""

    def described(self) -> dict[str, Any]:
        """What the run keeps of it, besides its plan."""
        found: dict[str, Any] = {"method": self.method}
        if self.start is not None:
            found["base"] = self.start.described()
        if "teacher" in self.parents:
            found["teacher"] = str(self.parents["teacher"].path)
        return found


PLAIN = PretrainVariant()


def begun_from(start: Path | str | None, recipe: Recipe | None = None) -> PretrainVariant:
    """Pretraining that begins with the weights of a checkpoint or run, or with random ones.

    Raises:
        UserError: there is none, it is damaged, or random weights are to be trained in one bit.
    """
    if start is None and recipe is not None and isinstance(recipe.quantization, OneBitConfig):
        what = "one-bit layers begin as a trained model's"
        hint = "congling distill RUN SHARDS, or congling pretrain SHARDS --from RUN"
        raise UserError(what, where="quantization.method", value="onebit", hint=hint)
    opened = None if start is None else open_base(start)
    tables = {} if recipe is None else {"quantization": recipe.quantization}
    return PretrainVariant(start=opened, tables=tables)


def run(
    config: PretrainConfig,
    inputs: Inputs,
    out: Path | str,
    *,
    must_resume: bool = False,
    files: Mapping[str, str] | None = None,
    variant: PretrainVariant = PLAIN,
    started: float | None = None,
) -> RunDirectory:
    """Train to the end and return the run's directory; starts from its newest checkpoint if there is one.

    Args:
        config: model and training.
        inputs: shards and tokenizer.
        out: the run directory.
        must_resume: fail where there is nothing to go on from.
        files: small texts kept in the run directory, by name.
        variant: what differs from pretraining random weights.
        started: ``time.monotonic()`` from which the time of a deadline counts; by default now.

    Raises:
        UserError: see :func:`congling.train.runs.train.train`; or model and shards differ in vocabulary or
            context.
        Interrupted: Ctrl-C; the state is saved.
    """
    require_fit(config.model, config.train, inputs.shards, variant.context)
    require_one_tokenizer(inputs, variant)
    settings = config.train
    # Whoever brings batches or an objective of its own lets a teacher read the same rows.
    sampling = sampling_of(settings, config.model) if variant.objective is None else None
    transformer = _model(config, variant)
    corpus = batches_of(inputs, settings, sampling)
    if config.quantization is not None:
        train_in_few_bits(transformer, config.quantization, rows_of(corpus))
    transformer.checkpoint_blocks(settings.gradient_checkpointing)
    backend = ddp.build_backend(settings)
    try:
        batches = corpus if variant.batches is None else variant.batches(corpus, transformer, backend)
        objective = next_token if variant.objective is None else variant.objective(backend.device)
        trainer = Trainer(
            transformer,
            batches,
            objective,
            settings,
            backend,
            after_update=transformer.update_balance,
            deadline=config.deadline and Deadline(config.deadline, settings, started=started),
            prefetch=2 if variant.batches is None else 0,
        )
        parts = _parts(config, inputs, trainer, files or {}, variant)
        with shortage_explained(config.model, settings, backend, trainer=trainer):
            return train(trainer, out, parts, must_resume=must_resume)
    finally:
        backend.close()


def _model(config: PretrainConfig, variant: PretrainVariant) -> Transformer:
    """Random weights, or those of the start.

    Raises:
        UserError: the start is another model than the run was begun with.
    """
    transformer = Transformer(config.model)
    if variant.start is None:
        transformer.initialise(config.train.seed)
    elif variant.start.model.replace(dropout=config.model.dropout) != config.model:
        raise UserError(
            "this run was made from other start weights",
            where=variant.start.path,
            hint="give the checkpoint it was started with, or choose another --out",
        )
    else:
        transformer.load_state_dict(variant.start.build(config.train.max_length).state_dict())
    return transformer


def require_one_tokenizer(inputs: Inputs, variant: PretrainVariant) -> None:
    """Compare the tokenizer of the start with that of the shards.

    Raises:
        UserError: they differ, or the start is a GGUF file.
    """
    if variant.start is not None:
        require_same_tokenizer(variant.start, inputs, "checkpoint")


def rows_of(corpus: CorpusBatches) -> list[Rows]:
    """The rows of the first steps, for methods that look at what the model reads."""
    batches, step = list[Batch](), 0
    while sum(batch.tokens.size for batch in batches) < TOKENS:
        batches += corpus(step)
        step += 1
    many = max(1, AT_ONCE // corpus.context)

    ids = torch.cat([torch.from_numpy(batch.tokens) for batch in batches]).split(many)

    def beside(name: str) -> Sequence[Tensor | None]:
        parts = [getattr(batch, name) for batch in batches]
        return (
            [None] * len(ids)
            if parts[0] is None
            else torch.cat(list(map(torch.from_numpy, parts))).split(many)
        )

    return list(zip(ids, beside("positions"), beside("documents"), strict=True))


def _parts(
    config: PretrainConfig, inputs: Inputs, trainer: Any, files: Mapping[str, str], variant: PretrainVariant
) -> RunParts:
    """What the run needs besides its trainer: inputs to compare, looks to take, scales."""
    split, validation = inputs.shards["train"], inputs.shards["validation"]
    settings, backend = config.train, trainer.backend
    # The loss is a mean over the tokens trained on, which are more than the file's where pieces fall apart.
    growth = expected_growth(split, token_parts(inputs.tokenizer), settings.token_split_prob)
    scales = MetricScales(
        tokens_per_character=len(split.tokens) / max(1, int(split.characters.sum())) * growth,
        flops_per_token=flops_per_token(config.model, settings.max_length),
        matmul_peak=matmul_peak(backend.device, backend.dtype) if backend.rank == 0 else None,
    )
    parents = {"shards": inputs.shards.artifact}
    parents["tokenizer"] = artifact.opened(inputs.tokenizer_path, "tokenizer")
    if variant.start is not None:
        parents["start"] = variant.start.artifact
    return RunParts(
        config,
        parents=parents | dict(variant.parents),
        facts=Reading(settings.max_length, settings.document_mask).facts() | _inherited(config, variant),
        tokenizer=inputs.tokenizer_path,
        evaluate=held_out_loss(validation, settings, backend) if len(validation.tokens) else None,
        sample=continuations(inputs.tokenizer, settings) if settings.sample_prompts else None,
        watch=watch,
        scales=scales,
        files=files,
        save_model=save_model if config.quantization is None else saving(config.quantization),
    )


def _inherited(config: PretrainConfig, variant: PretrainVariant) -> dict[str, Any]:
    """What still holds of the start, and in what the model is trained."""
    made = {} if config.quantization is None else {FACT: made_of(config.quantization)}
    if variant.start is None:
        return made
    own = variant.objective is not None  # of rows that keep their positions
    longest = config.train.max_length if own else longest_of(config.train, config.model)
    known = extension_after(variant.start.artifact.facts, longest)
    return known | ({"chat": True} if variant.start.chat else {}) | made
