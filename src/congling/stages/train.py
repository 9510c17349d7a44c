"""From text files (or a recipe) to a trained model with a report, in one command; run again, it resumes.

::

    texts ─documents─tokenizer─shards─plan─run─report→ one directory
    congling train book.txt --budget 15m --out runs/book
    congling train examples/hlm.toml 'data.sources=["hlm.txt"]' model.num_hidden_layers=6 --out runs/hlm
    congling train --out runs/book --longer 30m
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from congling.core import machine
from congling.core.document import print_document
from congling.methods.options import AsJson, Fresh, Longer
from congling.stages import generate, tokenize, tokenizer

if TYPE_CHECKING:  # what prepares and trains loads only when something is trained
    from congling.core.console import Console
    from congling.methods.train import Shows, Trained
    from congling.plan.recipe import Recipe

SAMPLE_TOKENS = 160
"""Length of the text shown at the end."""


def command(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="[TEXTS]...",
            default_factory=list,
            help="Texts and folders, or one recipe (.toml); and values like model.num_hidden_layers=6. "
            "Left out: what the run in --out was begun with.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The directory to write, or to resume.")],
    budget: Annotated[str | None, typer.Option(help="Time for everything, such as 90s, 15m or 2h.")] = None,
    longer: Longer = None,
    fresh: Fresh = False,
    force: Annotated[bool, typer.Option(help="Train even though the plan has an error.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a model from text files or a recipe, and report."""
    from congling.core.console import Console
    from congling.methods.fresh import begin_anew

    started, console = machine.command_started(), Console()
    recipe = _asked(arguments, budget, out)
    begin_anew(out, *recipe.data.sources, fresh=fresh, longer=longer)
    from congling.methods.train import run  # torch loads once what was typed is right

    made = run(recipe, out, shows=_shows(console), force=force, started=started, longer=longer)
    if as_json:
        from congling.report import record
        from congling.report.explain import explain

        seconds = time.monotonic() - started
        print_document(
            {
                "out": out,
                "seconds": seconds,
                "budget": made.budget,
                "held_out": made.evaluation,
                "report": made.report,
                "findings": explain(record.read(record.locate(out))),
            }
        )
        return
    _show_end(made, console, started)


def _asked(arguments: Sequence[str], budget: str | None, out: Path) -> "Recipe":
    """The recipe of the command line; without any, that of the run that is there.

    Raises:
        UserError: it cannot be read or does not fit.
        BadParameter: there is neither.
    """
    from congling.core.config import build, with_overrides
    from congling.core.rundir import RunDirectory
    from congling.methods.begun import recipe_of
    from congling.plan.recipe import Recipe, read, separate

    inputs, overrides = separate(arguments)
    if budget is not None:
        overrides.append(f'budget="{budget}"')
    begun = RunDirectory(out / "run")
    if inputs:
        return read(inputs, overrides)
    if not begun.config.is_file():
        raise typer.BadParameter("nothing to train on, and no run in --out", param_hint="TEXTS...")
    values = recipe_of(Recipe, begun).model_dump(exclude_none=True)
    return build(Recipe, with_overrides(values, overrides), where="command line")


def _shows(console: "Console") -> "Shows":
    """Every step as its own verb shows it, the plan in short."""
    from congling.data import display
    from congling.methods.train import Shows
    from congling.plan.show import show_brief

    return Shows(
        documents=lambda summary: display.show_result(summary, console),
        tokenizer=lambda trained: tokenizer.show(trained, console),
        shards=lambda shards: tokenize.show(shards, console),
        plan=lambda plan: show_brief(plan, console),
    )


def _show_end(made: "Trained", console: "Console", started: float) -> None:
    """Print the loss, a text, how long it took and why, what is wrong with it, and what to do next."""
    from congling.core.units import show_seconds
    from congling.evals.score_tables import loss_table
    from congling.methods.ending import show_made

    if made.evaluation is not None:
        found = made.evaluation
        console.print(loss_table(found.loss, found.lines, found.split, found.notes))
    prompt = made.prompts[0] if made.prompts else ""
    text = generate.run(made.out, [prompt], max_new_tokens=SAMPLE_TOKENS)[0]
    elapsed = time.monotonic() - started
    kept = () if made.budget is None else replace(made.budget, took=max(made.budget.took, elapsed)).lines()
    done = f"done in {show_seconds(elapsed)}; the report is {made.report}"
    for line in (f"\n{prompt}{text}\n", done, *kept):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    show_made(made.out, None, console)
