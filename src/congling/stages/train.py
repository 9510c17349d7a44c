"""From text files (or a recipe) to a trained model with a report, in one command; run again, it goes on.

::

    texts ─documents─tokenizer─shards─plan─run─report→ one directory
    congling train book.txt --budget 15m --out runs/book
    congling train examples/hlm.toml 'data.sources=["hlm.txt"]' model.layers=6 --out runs/hlm
"""

import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from congling.core import artifact, leftovers, machine
from congling.core.config import Config, build
from congling.core.errors import UserError
from congling.core.output import warn
from congling.core.units import show_seconds
from congling.data import corpus
from congling.stages import data, explain, generate, pretrain, report, tokenize, tokenizer
from congling.stages import eval as evaluation
from congling.train.rundir import RunDirectory, require_same

if TYPE_CHECKING:
    from congling.plan.recipe import Recipe
    from congling.stages.eval import Evaluation

LEAST_SHARE = 0.5
"""Part of a budget that training gets even where preparing the text took more than the rest."""
SAMPLE_TOKENS = 160
"""Length of the text shown at the end."""
MOST_FINDINGS = 2
"""Errors and warnings about the finished run that are shown; ``congling explain`` shows all."""


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


def command(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="TEXTS...",
            help="Texts and folders, or one recipe (.toml); and values like model.layers=6.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The directory to write, or to go on with.")],
    budget: Annotated[str | None, typer.Option(help="Time for everything, such as 90s, 15m or 2h.")] = None,
    force: Annotated[bool, typer.Option(help="Train even though the plan has an error.")] = False,
) -> None:
    """Train a model from text files or a recipe, and report."""
    from congling.plan.recipe import read, separate

    started = time.monotonic()
    inputs, overrides = separate(arguments)
    if budget is not None:
        overrides.append(f'budget="{budget}"')
    recipe, console = read(inputs, overrides), Console()
    made = run(recipe, out, console=console, force=force, started=started)
    _show_end(made, console, time.monotonic() - started)


def run(
    recipe: "Recipe", out: Path | str, *, console: Console | None = None, force: bool = False,
    started: float | None = None,
) -> Trained:  # fmt: skip
    """Do every step that is not done yet.

    Args:
        recipe: what to do; whatever it leaves open is chosen.
        out: where the directories of all steps go.
        console: where to show what happens; ``None`` is quiet.
        force: train even though the plan has an error.
        started: ``time.monotonic()`` from which the budget counts; by default now.

    Raises:
        UserError: the recipe, its texts or an existing ``out`` do not allow it; or torchrun started several
            processes.
        Interrupted: Ctrl-C during training; calling again goes on.
    """
    from congling.plan import record
    from congling.plan.show import show_brief

    if machine.processes() > 1:
        raise UserError(
            "train prepares and reports in one process, but torchrun started several",
            value=machine.processes(),
            hint="make documents, tokenizer and shards first, then start `congling pretrain` with torchrun",
        )
    out, console = Path(out), console or Console(quiet=True)
    started = time.monotonic() if started is None else started
    _prepare(recipe, out, console)
    inputs = pretrain.open_inputs(out / "shards", out / "tokenizer")
    left = None
    if recipe.budget is not None:
        left = max(LEAST_SHARE * recipe.budget, recipe.budget - (time.monotonic() - started))
    at_once = not RunDirectory(out / "run").config.is_file()
    pretrain.begin_or_go_on(
        recipe, inputs, out / "run", seconds=left, force=force, show=lambda plan: show_brief(plan, console)
    )
    found = evaluation.run(out) if len(inputs.shards[inputs.shards.scored].tokens) else None
    if at_once:  # else the time of this process is not that of the run, which its timing log knows
        record.add_result(out / "run", "seconds", time.monotonic() - started)
        record.add_result(out / "run", "peak_memory", machine.peak_memory_bytes())
    return Trained(out, pretrain.prompts(recipe, inputs), found, report.run(out))


def _prepare(recipe: "Recipe", out: Path, console: Console) -> None:
    """Make documents, tokenizer and shards, each unless it is there already.

    Raises:
        UserError: what is there was made with other settings.
    """
    documents, vocabulary, shards = (out / name for name in ("documents", "tokenizer", "shards"))
    for line in leftovers.sweep(out):
        warn(line)
    if not _made(documents, "documents", recipe.data):
        data.run(recipe.data, documents)
        data.show_result(corpus.summary(documents), console)
    if not _made(vocabulary, "tokenizer", recipe.tokenizer):
        tokenizer.show(tokenizer.run(documents, vocabulary, recipe.tokenizer), console)
    if not artifact.exists(shards):
        tokenize.show(tokenize.run(documents, vocabulary, shards), console)


def _made(place: Path, kind: str, config: Config) -> bool:
    """Whether a step was done before, and with the same settings.

    Raises:
        UserError: it was done with others; the keys are named.
    """
    if not artifact.exists(place):
        return False
    before = build(type(config), artifact.opened(place, kind).fact("config"), where=place)
    require_same(before, config, where=place)
    return True


def _show_end(made: Trained, console: Console, elapsed: float) -> None:
    """Print the loss, what is wrong with it, a text, and what to do next."""
    place = shlex.quote(str(made.out))
    if made.evaluation is not None:
        console.print(evaluation.table(made.evaluation))
    _show_findings(made.out, f"congling explain {place}", console)
    prompt = made.prompts[0] if made.prompts else ""
    text = generate.run(made.out, [prompt], max_new_tokens=SAMPLE_TOKENS)[0]
    first_line = prompt.strip().partition("\n")[0]
    lines = (
        f"\n{prompt}{text}\n",
        f"done in {show_seconds(elapsed)}; the report is {made.report}",
        f"  congling generate {place} --prompt {shlex.quote(first_line)}",
        f"  congling chat {place}",
    )
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _show_findings(out: Path, more: str, console: Console) -> None:
    """Print the worst of what stands out about the run, a line each, and the command that says more."""
    from congling.plan.show import brief_finding

    worst = [finding for finding in explain.run(out) if finding.severity != "note"][:MOST_FINDINGS]
    for finding in worst:
        console.print(brief_finding(finding), soft_wrap=True)
    if worst:
        console.print(f"  {more}", markup=False, highlight=False, soft_wrap=True)
