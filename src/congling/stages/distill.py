"""Distillation: train a small model on the probabilities of a larger one; the same command resumes.

Reads a teacher (a run or checkpoint), shards and their tokenizer, which must be the teacher's; writes a run
directory::

    congling distill runs/large shards --tokenizer tokenizer --out small model.num_hidden_layers=2
    congling distill runs/large shards --tokenizer tokenizer --student pruned --out recovered

Without ``--student`` the student's weights are random and its size is planned, as in pretraining; with a
``[quantization]`` table it is the teacher itself, trained in few bits::

    congling distill run shards --tokenizer tokenizer --out q quantization.method=onebit distill.hidden=1
"""

from pathlib import Path
from typing import Annotated

import typer

from congling.core import machine
from congling.methods.options import AsJson, Fresh, Longer


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
    out: Annotated[Path, typer.Option(help="The run directory to write, or to resume.")] = Path("run"),
    student: Annotated[
        Path | None, typer.Option(help="A checkpoint or run to begin from, such as a pruned model.")
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
    """Train a small model on the probabilities of a larger one."""
    from congling.core.console import Console
    from congling.methods import distill
    from congling.methods.ending import show_run_end
    from congling.methods.fresh import begin_anew
    from congling.methods.inputs import open_inputs
    from congling.plan.show import show_brief
    from congling.train.runs.longer import finish

    started = machine.command_started()
    asked = distill.read_recipe(recipe, overrides or [])
    inputs = open_inputs(shards, tokenizer)
    begin_anew(out, teacher, shards, tokenizer, student, fresh=fresh, resume=resume, longer=longer)
    directory = distill.run(
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
