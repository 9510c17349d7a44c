"""From texts to a trained model and its report: every step that is not done yet, in one directory.

::

    texts ─ documents ─ tokenizer ─ shards ─ plan ─ run ─ final score ─ report
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from congling.core import artifact, leftovers, machine
from congling.core.config import Config, build, read_toml
from congling.core.differences import require_same
from congling.core.errors import UserError
from congling.core.interrupt import stopping_said
from congling.core.lock import only_writer
from congling.core.output import warn
from congling.core.rundir import RunDirectory
from congling.data import corpus, vocabulary
from congling.data.config import DataConfig
from congling.data.shards import Shards, open_shards
from congling.data.shards import write as write_shards
from congling.data.sources.contents import same_sources
from congling.methods import evaluation
from congling.methods.continuing import require_begun
from congling.methods.evaluation import Evaluation
from congling.methods.inputs import open_inputs, prompts
from congling.methods.planned import begin_or_go_on
from congling.methods.pretrain import begun_from
from congling.plan.planning import Plan
from congling.plan.recipe import Recipe
from congling.report import budget, record
from congling.report.budget import Kept
from congling.report.writing import write_report
from congling.tokenizer import training
from congling.train.runs.longer import finish


def _unseen(_: Any) -> None:
    """Show nothing."""


@dataclass(frozen=True)
class Shows:
    """Where each finished step is shown; by default nowhere."""

    documents: Callable[[dict[str, Any]], None] = _unseen
    """Given the summary of the documents."""
    tokenizer: Callable[[training.Trained], None] = _unseen
    shards: Callable[[Shards], None] = _unseen
    plan: Callable[[Plan], None] = _unseen


QUIET = Shows()


@dataclass(frozen=True)
class Trained:
    """What came of it."""

    out: Path
    prompts: tuple[str, ...]
    """What was continued in samples."""
    evaluation: Evaluation | None
    """``None`` where the text was too short to hold any of it out."""
    report: Path
    """The HTML page."""
    budget: Kept | None = None
    """How it came out against its time budget; ``None`` where there was none, or it was finished before."""


def run(
    recipe: Recipe,
    out: Path | str,
    *,
    shows: Shows = QUIET,
    force: bool = False,
    started: float | None = None,
    longer: str | None = None,
) -> Trained:
    """Do every step that is not done yet.

    Args:
        recipe: what to do; whatever it leaves open is chosen.
        out: where the directories of all steps go.
        shows: where to show each finished step.
        force: train even though the plan has an error.
        started: ``time.monotonic()`` from which the budget counts; by default now.
        longer: by how much the run that is there is to end later, such as ``30m`` or ``2000steps``.

    Raises:
        UserError: the recipe, its texts or an existing ``out`` do not allow it, another process works in
            ``out``, or torchrun started several processes.
        Interrupted: Ctrl-C during training; calling again goes on.
    """
    if machine.processes() > 1:
        raise UserError(
            "train prepares and reports in one process, but torchrun started several",
            value=machine.processes(),
            hint="make documents, tokenizer and shards first, then start `congling pretrain` with torchrun",
        )
    out = Path(out)
    started = time.monotonic() if started is None else started
    with only_writer(out):
        return _run(recipe, out, shows, force=force, started=started, longer=longer)


def _run(
    recipe: Recipe, out: Path, shows: Shows, *, force: bool, started: float, longer: str | None
) -> Trained:
    """All steps, in a directory that is ours."""
    require_begun(RunDirectory(out / "run"), longer=longer)
    variant = begun_from(None, recipe)
    _prepare(recipe, out, shows)
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
        show=shows.plan,
        variant=variant,
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
        page = write_report(out)
    finish(RunDirectory(out / "run"))
    return Trained(out, prompts(recipe, inputs), found, page, came_out)


def _ends(out: Path) -> int:
    """How often training here came to its end."""
    return sum(row.get("event") == "finished" for row in RunDirectory(out / "run").log("events").rows())


def _prepare(recipe: Recipe, out: Path, shows: Shows) -> None:
    """Make documents, tokenizer and shards, each unless it is there already.

    Raises:
        UserError: what is there was made with other settings.
    """
    documents, tokenizer, shards = (out / name for name in ("documents", "tokenizer", "shards"))
    for line in leftovers.sweep(out):
        warn(line)
    if not _made(documents, "documents", recipe.data):
        with stopping_said("the texts were read", "nothing of them is kept yet"):
            corpus.make(recipe.data, documents)
        shows.documents(corpus.summary(documents))
    if not _made(tokenizer, "tokenizer", recipe.tokenizer):
        with stopping_said("the tokenizer was learnt", f"{documents} is kept"):
            learnt = vocabulary.learn(documents, tokenizer, recipe.tokenizer)
        shows.tokenizer(learnt)
    if not artifact.exists(shards):
        with stopping_said("the texts were tokenized", f"{documents} and {tokenizer} are kept"):
            write_shards(documents, tokenizer, shards)
        shows.shards(open_shards(shards))


def _made(place: Path, kind: str, config: Config) -> bool:
    """Whether a step was done before, with the same settings and the same text, whatever its path.

    Raises:
        UserError: it was done with others; the keys are named.
    """
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
