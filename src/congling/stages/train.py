"""From text files (or a recipe) to a trained model with a report, in one command; run again, it goes on.

::

    texts ─documents─tokenizer─shards─plan─run─report→ one directory
    congling train book.txt --budget 15m --out runs/book
    congling train examples/hlm.toml 'data.sources=["hlm.txt"]' model.num_hidden_layers=6 --out runs/hlm
    congling train --out runs/book --longer 30m
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from congling.core import machine
from congling.core.document import print_document
from congling.core.errors import UserError
from congling.core.interrupt import stopping_said
from congling.methods.options import AsJson, Fresh, Longer
from congling.stages import data, generate, report, tokenize, tokenizer
from congling.stages import eval as evaluation

if TYPE_CHECKING:  # what prepares and trains loads only when something is trained
    from congling.core.config import Config
    from congling.core.console import Console
    from congling.plan.recipe import Recipe
    from congling.report.budget import Kept
    from congling.stages.eval import Evaluation

SAMPLE_TOKENS = 160
"""Length of the text shown at the end."""


@dataclass(frozen=True)
class Trained:
    """What came of it."""

    out: Path
    prompts: tuple[str, ...]
    """What was continued in samples."""
    evaluation: "Evaluation | None"
    """``None`` where the text was too short to hold any of it out."""
    report: Path
    """The HTML page."""
    budget: "Kept | None" = None
    """How it came out against its time budget; ``None`` where there was none, or it was finished before."""


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
    out: Annotated[Path, typer.Option(help="The directory to write, or to go on with.")],
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
    made = run(recipe, out, console=console, force=force, started=started, longer=longer)
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


def run(
    recipe: "Recipe",
    out: Path | str,
    *,
    console: "Console | None" = None,
    force: bool = False,
    started: float | None = None,
    longer: str | None = None,
) -> Trained:
    """Do every step that is not done yet.

    Args:
        recipe: what to do; whatever it leaves open is chosen.
        out: where the directories of all steps go.
        console: where to show what happens; ``None`` is quiet.
        force: train even though the plan has an error.
        started: ``time.monotonic()`` from which the budget counts; by default now.
        longer: by how much the run that is there is to end later, such as ``30m`` or ``2000steps``.

    Raises:
        UserError: the recipe, its texts or an existing ``out`` do not allow it, another process works in
            ``out``, or torchrun started several processes.
        Interrupted: Ctrl-C during training; calling again goes on.
    """
    from congling.core import machine
    from congling.core.console import Console
    from congling.core.lock import only_writer

    if machine.processes() > 1:
        raise UserError(
            "train prepares and reports in one process, but torchrun started several",
            value=machine.processes(),
            hint="make documents, tokenizer and shards first, then start `congling pretrain` with torchrun",
        )
    out, console = Path(out), console or Console(quiet=True)
    started = time.monotonic() if started is None else started
    with only_writer(out):
        return _run(recipe, out, console, force=force, started=started, longer=longer)


def _run(
    recipe: "Recipe", out: Path, console: "Console", *, force: bool, started: float, longer: str | None
) -> Trained:
    """All steps, in a directory that is ours."""
    from congling.core.config import read_toml
    from congling.core.rundir import RunDirectory
    from congling.methods.continuing import require_begun
    from congling.methods.inputs import open_inputs, prompts
    from congling.methods.planned import begin_or_go_on
    from congling.plan.show import show_brief
    from congling.report import budget, record
    from congling.train.runs.longer import finish

    require_begun(RunDirectory(out / "run"), longer=longer)
    _prepare(recipe, out, console)
    inputs = open_inputs(out / "shards", out / "tokenizer")
    at_once, ends = not RunDirectory(out / "run").config.is_file(), _ends(out)
    begin_or_go_on(
        recipe,
        inputs,
        out / "run",
        started=started,
        reported=True,
        longer=longer,
        force=force,
        show=lambda plan: show_brief(plan, console),
    )
    part = read_toml(RunDirectory(out / "run").config).get("deadline", {}).get("scored_tokens")
    held_out = len(inputs.shards[inputs.shards.scored].tokens)
    with stopping_said("the model was evaluated", f"the trained model in {out} is kept"):
        found = evaluation.run(out, part_tokens=part) if held_out else None
    if at_once:  # else the time of this process is not that of the run, which its timing log knows
        record.add_result(out / "run", "seconds", time.monotonic() - started)
        record.add_result(out / "run", "peak_memory", machine.peak_memory_bytes())
    came_out = None
    if _ends(out) > ends:  # training came to its end just now
        came_out = budget.came_out(record.read(out / "run"), time.monotonic() - started)
    if came_out is not None:
        record.add_result(out / "run", "budget", came_out.to_json())
    with stopping_said("the report was written", f"the trained model in {out} is kept"):
        page = report.run(out)
    finish(RunDirectory(out / "run"))
    return Trained(out, prompts(recipe, inputs), found, page, came_out)


def _ends(out: Path) -> int:
    """How often training here came to its end."""
    from congling.core.rundir import RunDirectory

    return sum(row.get("event") == "finished" for row in RunDirectory(out / "run").log("events").rows())


def _prepare(recipe: "Recipe", out: Path, console: "Console") -> None:
    """Make documents, tokenizer and shards, each unless it is there already.

    Raises:
        UserError: what is there was made with other settings.
    """
    from congling.core import artifact, leftovers
    from congling.core.output import warn
    from congling.data import corpus

    documents, vocabulary, shards = (out / name for name in ("documents", "tokenizer", "shards"))
    for line in leftovers.sweep(out):
        warn(line)
    if not _made(documents, "documents", recipe.data):
        with stopping_said("the texts were read", "nothing of them is kept yet"):
            data.run(recipe.data, documents)
        data.show_result(corpus.summary(documents), console)
    if not _made(vocabulary, "tokenizer", recipe.tokenizer):
        with stopping_said("the tokenizer was learnt", f"{documents} is kept"):
            learnt = tokenizer.run(documents, vocabulary, recipe.tokenizer)
        tokenizer.show(learnt, console)
    if not artifact.exists(shards):
        with stopping_said("the texts were tokenized", f"{documents} and {vocabulary} are kept"):
            encoded = tokenize.run(documents, vocabulary, shards)
        tokenize.show(encoded, console)


def _made(place: Path, kind: str, config: "Config") -> bool:
    """Whether a step was done before, with the same settings and the same text, whatever its path.

    Raises:
        UserError: it was done with others; the keys are named.
    """
    from congling.core import artifact
    from congling.core.config import build
    from congling.core.differences import require_same
    from congling.data.config import DataConfig
    from congling.data.sources.contents import same_sources

    if not artifact.exists(place):
        return False
    found = artifact.opened(place, kind)
    before, harmless = build(type(config), found.fact("config"), where=place, recorded=True), set[str]()
    if isinstance(before, DataConfig) and isinstance(config, DataConfig):
        same = same_sources(before.sources, found.facts.get("contents"), config.sources)
        harmless = {"sources"} if same else harmless
        if same is False and before.sources == config.sources:
            raise UserError(
                "the text is not what it was when this run was begun",
                where=place,
                value=", ".join(config.sources),
                hint="bring the old text back, choose another --out, or begin anew with --fresh",
            )
    require_same(before, config, where=place, harmless=harmless)
    return True


def _show_end(made: Trained, console: "Console", started: float) -> None:
    """Print the loss, a text, how long it took and why, what is wrong with it, and what to do next."""
    from congling.core.units import show_seconds
    from congling.methods.ending import show_made

    if made.evaluation is not None:
        console.print(evaluation.table(made.evaluation))
    prompt = made.prompts[0] if made.prompts else ""
    text = generate.run(made.out, [prompt], max_new_tokens=SAMPLE_TOKENS)[0]
    elapsed = time.monotonic() - started
    kept = () if made.budget is None else replace(made.budget, took=max(made.budget.took, elapsed)).lines()
    done = f"done in {show_seconds(elapsed)}; the report is {made.report}"
    for line in (f"\n{prompt}{text}\n", done, *kept):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    show_made(made.out, None, console)
