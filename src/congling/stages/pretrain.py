"""Train a model on shards, from random weights or a checkpoint; the same command resumes.

Reads a shards directory and the tokenizer directory it was made with, writes a run directory::

    congling pretrain book/shards --tokenizer book/tokenizer --out book/run train.max_steps=2000
    congling pretrain shards --tokenizer tokenizer --from pruned --out recovered
    congling pretrain shards --tokenizer tokenizer --out run --longer 2000steps

Whatever the recipe leaves open (model, batch, rates, number of steps) is planned for the corpus, machine and
budget. Weights of a checkpoint bring their model with them, and are trained at lower rates. With a
``[quantization]`` table they are trained in few bits, and so are the checkpoints::

    congling pretrain shards --from run --out q quantization.method=rtn quantization.bits=2
"""

from pathlib import Path
from typing import Annotated

import typer

from congling.core import machine
from congling.methods.options import AsJson, Fresh, Longer


def command(
    shards: Annotated[Path, typer.Argument(help="A shards directory.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Values such as train.max_steps=2000 or model.num_hidden_layers=4."),
    ] = None,
    tokenizer: Annotated[
        Path, typer.Option(help="The tokenizer directory the shards were made with.")
    ] = Path("tokenizer"),
    out: Annotated[Path, typer.Option(help="The run directory to write, or to resume.")] = Path("run"),
    start: Annotated[
        Path | None,
        typer.Option("--from", help="A checkpoint or run whose weights to begin from, not random ones."),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="A recipe (.toml); its data and tokenizer tables are not used.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Fail unless there is a checkpoint to resume from.")
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
    from congling.methods.inputs import open_inputs, read_recipe
    from congling.methods.planned import begin_or_go_on
    from congling.plan.recipe import Recipe
    from congling.plan.show import show_brief
    from congling.train.runs.longer import finish

    started = machine.command_started()
    asked, inputs = read_recipe(Recipe, recipe, overrides or []), open_inputs(shards, tokenizer)
    variant = pretrain.begun_from(start, asked)
    begin_anew(out, shards, tokenizer, start, fresh=fresh, resume=resume, longer=longer)
    run = begin_or_go_on(
        asked,
        inputs,
        out,
        must_resume=resume,
        longer=longer,
        force=force,
        show=lambda plan: show_brief(plan, Console()),
        variant=variant,
        started=started,
    )
    finish(run)
    show_run_end(out, started=started, as_json=as_json)
