"""What is printed before a fine-tuning run, and after any run: losses, findings, next commands."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from congling.core import artifact, machine, pointers
from congling.core.console import Console
from congling.core.diagnosis import Diagnosis
from congling.core.document import print_document
from congling.core.units import plural, show_bytes, show_count
from congling.data.problems import ReadingLog
from congling.methods.session import Tuned
from congling.plan.show import brief_diagnosis
from congling.plan.tuning_plan import TuningFacts, memory_of
from congling.report import record
from congling.report.budget import came_out
from congling.report.explain import explain
from congling.report.next_steps import Step, next_steps
from congling.report.pages import HTML_FILE
from congling.train.config import TrainConfig

MOST_FINDINGS = 2
"""Errors and warnings about the finished run that are shown; ``congling explain`` shows all."""


def show_rows(kept: int, held_out: int, noun: str, findings: ReadingLog, console: Console) -> None:
    """Count the rows, and everything that is wrong with others, with the first of each kind."""
    say(
        console,
        f"{kept + held_out} {plural(kept + held_out, noun)}: {held_out} held out, {kept} to learn from",
    )
    for kind, count in findings.counts.most_common():
        first = next((one for one in findings.examples if one.kind == kind), None)
        place = f", first {first.place}: {first.reason}" if first is not None else ""
        say(console, f"  {count} × {kind}{place}")
    for note in findings.sentences:
        say(console, f"  {note}")


def show_work(
    what: str,
    facts: TuningFacts,
    train: TrainConfig,
    learnt: int,
    *,
    adapter: bool,
    console: Console,
    findings: Sequence[Diagnosis] = (),
) -> None:
    """Say what is learnt, in how many steps of what, at which rate, in how much memory; then the findings."""
    trained = f"an adapter of {show_count(learnt)}" if adapter else f"all {show_count(learnt)}"
    steps = f"{train.max_steps} {plural(train.max_steps, 'step')} of {what}"
    say(console, f"training {trained} parameters: {steps}, rate {train.optimizer.learning_rate:g}")
    parts = memory_of(facts, train, adapter=adapter, trained=learnt)
    held = ", ".join(f"{name} {show_bytes(size)}" for name, size in parts.items() if size)
    say(console, f"memory about {show_bytes(sum(parts.values()))}: {held}")
    for finding in findings:
        console.print(brief_diagnosis(finding), soft_wrap=True)


def summary(out: Path) -> dict[str, Any]:
    """What came of a run, for a program: its best checkpoint, and its held-out numbers."""
    place = record.locate(out)
    run, checkpoint = record.read(place), pointers.handed_on(place)
    step = None if checkpoint is None else artifact.opened(checkpoint, "checkpoint").facts.get("step")
    held_out = run.looks.get(step) if isinstance(step, int) else None
    return {
        "out": out,
        "checkpoint": checkpoint,
        "step": step,
        "held_out": held_out or {},
        "findings": explain(run),
    }


def show_end(tuned: Tuned, *, unit: str = "", as_json: bool = False) -> None:
    """Print the gain on held-out rows and the rest of :func:`show_made`; the first process alone does.

    Args:
        tuned: what came of the run.
        unit: of the held-out number.
        as_json: print a document for a program instead.
    """
    if not machine.is_first_process():
        return
    if as_json:
        chosen_by = {"name": tuned.name, "before": tuned.before, "after": tuned.after}
        made = {"adapter": tuned.adapter, "chosen_by": chosen_by, "report": tuned.report}
        print_document(summary(tuned.out) | made)
        return
    console = Console()
    if tuned.before is not None and tuned.after is not None:
        say(console, f"held-out {tuned.name} {tuned.before:.4f} → {tuned.after:.4f} {unit}".rstrip())
    say(console, f"trained: {tuned.adapter or tuned.out}")
    show_made(tuned.out, tuned.report, console)


def show_run_end(out: Path, *, started: float, as_json: bool = False) -> None:
    """Say that a run on shards is over; see :func:`show_made`. The first process alone does.

    Args:
        out: the run.
        started: ``time.monotonic()`` from which its budget counts.
        as_json: print a document for a program instead.
    """
    if as_json:
        print_document(summary(out))
    elif machine.is_first_process():
        console, page = Console(), record.locate(out) / "report" / HTML_FILE
        for line in (f"trained: {out}", *told_of_the_time(out, started)):
            say(console, line)
        show_made(out, page if page.is_file() else None, console)


def told_of_the_time(out: Path, started: float) -> list[str]:
    """What to say of its budget when a run is over: what was planned, what it took, and why.

    Nothing without a budget, and of a run that was finished before ``started``.
    """
    found = came_out(record.read(record.locate(out)), time.monotonic() - started)
    return [] if found is None else found.lines()


def show_made(out: Path, report: Path | None, console: Console) -> None:
    """Print the worst of what stands out about a finished run, where its report is, and what to do next."""
    run = record.read(record.locate(out))
    worst = [finding for finding in explain(run) if finding.severity != "note"][:MOST_FINDINGS]
    for finding in worst:
        console.print(brief_diagnosis(finding), soft_wrap=True)
    if report is not None:
        say(console, f"the report is {report}")
    show_steps(next_steps(run), console)


def show_steps(steps: tuple[Step, ...], console: Console) -> None:
    """Print commands as they can be typed."""
    for step in steps:
        say(console, f"  {step.command}")


def say(console: Console, text: str) -> None:
    """One plain line."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
