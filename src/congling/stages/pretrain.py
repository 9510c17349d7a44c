"""Train a model on shards, from random weights or a checkpoint; the same command goes on where it stopped.

Reads a shards directory and the tokenizer directory it was made with, writes a run directory::

    congling pretrain book/shards --tokenizer book/tokenizer --out book/run train.max_steps=2000
    congling pretrain shards --tokenizer tokenizer --from pruned --out recovered
    congling pretrain shards --tokenizer tokenizer --out run --longer 2000steps

Whatever the recipe leaves open (model, batch, rates, number of steps) is planned for the corpus, machine and
budget. Weights of a checkpoint bring their model with them, and are trained at lower rates.
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from congling.core import machine
from congling.methods.options import AsJson, Fresh, Longer

if TYPE_CHECKING:
    from congling.methods.pretrain import (
        PLAIN,
        Inputs,
        PretrainConfig,
        PretrainVariant,
        begin_or_go_on,
        open_inputs,
        plan,
        prompts,
        run,
        run_files,
    )
    from congling.plan.recipe import Recipe

__all__ = [
    "PLAIN", "Inputs", "PretrainConfig", "PretrainVariant", "begin_or_go_on", "open_inputs", "plan",
    "prompts", "run", "run_files",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """The functions of ``congling.methods.pretrain``, loaded when one is used: help needs none."""
    if name not in __all__:
        raise AttributeError(name)
    return getattr(import_module("congling.methods.pretrain"), name)


def command(
    shards: Annotated[Path, typer.Argument(help="A shards directory.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Values such as train.max_steps=2000 or model.num_hidden_layers=4."),
    ] = None,
    tokenizer: Annotated[
        Path, typer.Option(help="The tokenizer directory the shards were made with.")
    ] = Path("tokenizer"),
    out: Annotated[Path, typer.Option(help="The run directory to write, or to go on with.")] = Path("run"),
    start: Annotated[
        Path | None,
        typer.Option("--from", help="A checkpoint or run whose weights to begin from, not random ones."),
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
    """Train on shards, or go on with the run in --out."""
    from congling.core.console import Console
    from congling.methods import pretrain
    from congling.methods.ending import show_run_end
    from congling.methods.fresh import begin_anew
    from congling.plan.show import show_brief
    from congling.train.runs.longer import finish

    started = machine.command_started()
    asked, inputs = read_recipe(recipe, overrides or []), pretrain.open_inputs(shards, tokenizer)
    task = pretrain.PLAIN if start is None else begun_from(start)
    begin_anew(out, shards, tokenizer, start, fresh=fresh, resume=resume, longer=longer)
    run = pretrain.begin_or_go_on(
        asked,
        inputs,
        out,
        must_resume=resume,
        longer=longer,
        force=force,
        show=lambda plan: show_brief(plan, Console()),
        task=task,
        started=started,
    )
    finish(run)
    show_run_end(out, started=started, as_json=as_json)


def read_recipe(path: Path | None, overrides: Sequence[str]) -> "Recipe":
    """A recipe for shards that exist already; its ``[data]`` may be left out.

    Raises:
        UserError: the recipe cannot be read or does not fit.
    """
    from congling.methods import pretrain
    from congling.plan.recipe import Recipe

    return pretrain.read_recipe(Recipe, path, overrides)


def begun_from(start: Path | str) -> "PretrainVariant":
    """Pretraining that begins with the weights of a checkpoint or run.

    Raises:
        UserError: there is none, or it is damaged.
    """
    from congling.methods.base_model import open_base
    from congling.methods.pretrain import PretrainVariant

    return PretrainVariant(start=open_base(start))
