"""Train a model further on rows of questions and answers, or on texts: an adapter beside it, or itself.

Only answers are learnt; of plain texts, every token. A GGUF base stays packed, and takes an adapter::

    congling sft base.gguf --data rows.jsonl --out runs/poet adapter.rank=8
    congling sft runs/book --data rows.jsonl --data poems.txt --out runs/poet train.steps=300
    congling sft runs/book examples/lora.toml --data rows.jsonl --out runs/poet

The same command goes on after an interruption.
"""

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import Field, PositiveFloat

from congling.core import machine
from congling.core.artifact import Artifact
from congling.core.config import Config, build, read_toml, with_overrides
from congling.core.errors import UserError
from congling.data.config import DataConfig
from congling.train.config import TrainConfig
from congling.transform.config import AdapterConfig

if TYPE_CHECKING:
    from rich.console import Console

    from congling.data.chats import Examples
    from congling.plan.tuning import TuningFacts
    from congling.train.bases import OpenedBase
    from congling.train.loop import Trainer
    from congling.train.run import RunParts


class TuningRecipe(Config):
    """What a person asks for; whatever ``[train]`` leaves open follows from base and data."""

    data: DataConfig
    adapter: AdapterConfig | None = None
    """Low-rank factors beside a frozen base; left out, the weights themselves are trained."""
    train: dict[str, Any] = Field(default_factory=dict)
    """Any key of ``[train]``."""
    epochs: PositiveFloat = 3.0
    """Passes over the rows, where ``train.steps`` says nothing."""


class TuningConfig(Config):
    """All that determines the run, besides the contents of base and data."""

    data: DataConfig
    adapter: AdapterConfig | None = None
    train: TrainConfig


@dataclass(frozen=True)
class Tuned:
    """What came of it."""

    out: Path
    adapter: Path | None
    """The adapter's directory; None where the weights themselves were trained."""
    before: float | None
    """Held-out loss of the base in nats a learnt token; None where nothing was held out."""
    after: float | None
    """That of the step that is handed on."""


def command(
    base: Annotated[Path, typer.Argument(help="A GGUF file, a run, or a checkpoint.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(help="A recipe (.toml), values like adapter.rank=8, and further data files."),
    ] = None,
    data: Annotated[list[str] | None, typer.Option(help="Rows (JSON, CSV …) or texts; repeatable.")] = None,
    out: Annotated[Path, typer.Option(help="The run directory to write, or to go on with.")] = Path("sft"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Fail unless there is a checkpoint to go on from.")
    ] = False,
    force: Annotated[bool, typer.Option(help="Train even though a check found an error.")] = False,
) -> None:
    """Train a model on questions and answers."""
    from rich.console import Console

    recipe = read_recipe(settings or [], data or [])
    console = Console()
    tuned = run(base, recipe, out, console=console, must_resume=resume, force=force)
    if machine.is_first_process():
        _show_end(tuned, base, console)


def read_recipe(settings: Sequence[str], data: Sequence[str]) -> TuningRecipe:
    """A recipe file, ``key=value`` overrides and data files as one configuration.

    Raises:
        UserError: they do not fit, or there is no data.
    """
    recipes = [one for one in settings if one.endswith(".toml")]
    overrides = [one for one in settings if "=" in one and not Path(one).exists()]
    sources = [*data, *(one for one in settings if one not in recipes and one not in overrides)]
    if len(recipes) > 1:
        raise UserError("one recipe at a time", value=" ".join(recipes))
    values = with_overrides(read_toml(recipes[0]) if recipes else {}, overrides)
    if sources:
        values["data"] = {**values.get("data", {}), "sources": sources}
    if not values.get("data", {}).get("sources"):
        raise UserError("nothing to learn from", hint="name rows or texts with --data")
    return build(TuningRecipe, values, where=recipes[0] if recipes else "command line")


def run(
    base: Path | str, recipe: TuningRecipe, out: Path | str, *, console: "Console | None" = None,
    must_resume: bool = False, force: bool = False,
) -> Tuned:  # fmt: skip
    """Train to the end, or go on from the newest checkpoint in ``out``.

    Args:
        base: a GGUF file, a checkpoint, or what leads to one.
        recipe: data, adapter, training.
        out: the run directory.
        console: where to show what is planned; ``None`` is quiet.
        must_resume: fail where there is nothing to go on from.
        force: train even though a check found an error.

    Raises:
        UserError: base or data cannot be used, a check found an error, or ``out`` holds another run.
        Interrupted: Ctrl-C; the state is saved.
    """
    from congling.plan import tuning
    from congling.plan.planning import require_sound
    from congling.plan.tuning_show import show
    from congling.train import adapters
    from congling.train.bases import open_base
    from congling.train.run import train

    _require_sound_table(recipe)
    opened = open_base(base)
    examples = _examples(recipe, opened)
    facts = _facts(opened, examples)
    config = _filled_in(recipe, facts, examples)
    adapter = config.adapter is not None
    findings = tuning.check(facts, config.train, adapter=adapter)
    if not force:
        require_sound(findings)
    trainer = _trainer(config, opened, examples)
    try:
        if console is not None and trainer.backend.rank == 0:
            learnt = sum(one.numel() for one in trainer.model.parameters() if one.requires_grad)
            show(facts, examples, config.train, findings, adapter=adapter, learnt=learnt, console=console)
        directory = train(
            trainer, out, _parts(config, opened, examples, trainer, Path(out)), must_resume=must_resume
        )
        handed_on = None
        if adapter and trainer.backend.rank == 0:
            handed_on = adapters.hand_on(directory)
    finally:
        trainer.backend.close()
    losses = {row["step"]: row["validation_loss"] for row in directory.log("metrics").rows()
              if "validation_loss" in row}  # fmt: skip
    best = trainer.best["step"] if trainer.best is not None else config.train.steps
    return Tuned(Path(out), handed_on, losses.get(0), losses.get(best))


def _require_sound_table(recipe: TuningRecipe) -> None:
    """Name mistakes in ``[train]`` before anything follows from it; steps and context may be left open."""
    from congling.plan.tuning import KINDS

    table = {"steps": 1, "context": 1, **recipe.train}
    for key, kind in KINDS.items():
        if isinstance(table.get(key), dict):
            table[key] = {"kind": kind} | table[key]
    build(TrainConfig, table, where="recipe, train")


def _examples(recipe: TuningRecipe, opened: "OpenedBase") -> "Examples":
    from congling.data import chats
    from congling.plan.tuning import context_of

    return chats.read(recipe.data, opened.tokenizer, context_of(recipe.train, opened.model))


def _facts(opened: "OpenedBase", examples: "Examples") -> "TuningFacts":
    from congling.data.examples import targets_of
    from congling.plan.tuning import TuningFacts

    inputs = [example.inputs for example in examples.train]
    return TuningFacts(
        model=opened.model, base_bytes=opened.size, packed=opened.packed,
        examples=len(inputs), inputs=sum(inputs), targets=targets_of(examples.train), longest=max(inputs),
        held_out=len(examples.validation), faults=examples.findings.counts,
        held_out_inputs=sum(example.inputs for example in examples.validation),
        held_out_targets=targets_of(examples.validation),
    )  # fmt: skip


def _filled_in(recipe: TuningRecipe, facts: "TuningFacts", examples: "Examples") -> TuningConfig:
    """The configuration with everything decided."""
    from congling.data.examples import packed
    from congling.plan.tuning import settings

    def steps_per_epoch(context: int, rows: int, accumulation: int) -> float:
        return len(packed([example.inputs for example in examples.train], context)) / (rows * accumulation)

    train = settings(
        recipe.train, facts, adapter=recipe.adapter is not None, epochs=recipe.epochs,
        steps_per_epoch=steps_per_epoch,
    )  # fmt: skip
    decided = {"data": recipe.data, "adapter": recipe.adapter, "train": train}
    return build(TuningConfig, decided, where="recipe")


def _batches(train: TrainConfig, examples: "Examples", pad: int) -> Any:
    from congling.data.examples import ExampleBatches

    return ExampleBatches(
        examples.train, context=train.context, rows=train.rows, accumulation=train.accumulation,
        seed=train.seed, pad=pad,
    )  # fmt: skip


def _trainer(config: TuningConfig, opened: "OpenedBase", examples: "Examples") -> "Trainer":
    from congling.train.backends.ddp import build_backend
    from congling.train.loop import Trainer
    from congling.train.objectives.next_token import next_token
    from congling.transform.lora import attach

    train = config.train
    model = opened.build(train.context)
    if config.adapter is not None:
        attach(model, config.adapter, seed=train.seed)
    model.checkpoint_blocks(train.checkpointing)
    if train.checkpointing:  # whoever recomputes wants little memory more than speed
        machine.return_freed_memory()
    return Trainer(
        model, _batches(train, examples, opened.tokenizer.pad_id), next_token, train, build_backend(train),
        after_update=model.update_balance if config.adapter is None else None,
    )  # fmt: skip


def _parts(
    config: TuningConfig, opened: "OpenedBase", examples: "Examples", trainer: "Trainer", out: Path
) -> "RunParts":
    """What the run needs besides its trainer."""
    from congling.evals.answers import answers, held_out_loss
    from congling.evals.periodic import continuations
    from congling.train import adapters
    from congling.train.metrics import Yardsticks
    from congling.train.objectives.next_token import next_token
    from congling.train.run import RunParts

    train, facts = config.train, {"chat": bool(examples.conversations) or opened.chat}
    evaluate = sample = None
    if examples.validation:
        evaluate = held_out_loss(examples.validation, train, next_token, trainer.backend.place)
    if train.sample_prompts:
        sample = continuations(opened.tokenizer, train)
    elif examples.questions:
        sample = answers(opened.tokenizer, examples.questions, train)
    whole: dict[str, Any] = {"tokenizer": opened.tokenizer_directory}
    if config.adapter is not None:
        kept = facts | {"adapter": config.adapter.model_dump(mode="json"), "base_path": str(opened.path)}
        kept["name"] = out.resolve().name
        whole = {"save_model": adapters.saver(opened.identity, kept)}
    return RunParts(
        config,
        parents={"base": opened.artifact, "data": _fingerprint(examples)},
        evaluate=evaluate,
        evaluate_first=True,
        sample=sample,
        yardsticks=Yardsticks(tokens_per_character=examples.tokens_per_character),
        facts=facts,
        **whole,
    )


def _fingerprint(examples: "Examples") -> Artifact:
    """The data as something a run can be compared with: other rows are another run."""
    found = hashlib.sha256()
    for example in (*examples.train, *examples.validation):
        found.update(example.ids.tobytes() + example.learnt.tobytes())
    return Artifact(Path("data"), "examples", found.hexdigest(), {}, {})


def _show_end(tuned: Tuned, base: Path, console: "Console") -> None:
    """Print what was gained and what to do next."""
    lines = []
    if tuned.before is not None and tuned.after is not None:
        lines.append(f"held-out loss {tuned.before:.4f} → {tuned.after:.4f} nats/token")
        if tuned.after >= tuned.before:
            lines.append(
                "training has not helped on held-out rows: try a lower rate, fewer steps or more rows"
            )
    if tuned.adapter is None:
        lines += [f"trained: {tuned.out}", f"  congling chat {shlex.quote(str(tuned.out))}"]
    else:
        adapter, model = shlex.quote(str(tuned.adapter)), shlex.quote(str(base))
        lines += [
            f"trained: {tuned.adapter}",
            f"  congling generate {model} --lora {adapter}",
            f"  congling convert {adapter} --base {model} --to gguf-lora --out adapter.gguf  (peft, ggla)",
        ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
