"""What a run says when it is over: what was gained, what stands out, where the report is, what to do next."""

import time
from pathlib import Path
from typing import Any

from congling.core import artifact, machine, pointers
from congling.core.console import Console
from congling.core.document import print_document
from congling.methods.session import Tuned
from congling.plan.show import brief_finding
from congling.report import record
from congling.report.budget import came_out
from congling.report.explain import explain
from congling.report.next_steps import Step, next_steps
from congling.report.pages import HTML_FILE

MOST_FINDINGS = 2
"""Errors and warnings about the finished run that are shown; ``congling explain`` shows all."""


def summary(out: Path) -> dict[str, Any]:
    """What came of a run, for a program: the checkpoint it hands on, and its held-out numbers."""
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
        _say(console, f"held-out {tuned.name} {tuned.before:.4f} → {tuned.after:.4f} {unit}".rstrip())
    _say(console, f"trained: {tuned.adapter or tuned.out}")
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
            _say(console, line)
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
        console.print(brief_finding(finding), soft_wrap=True)
    if report is not None:
        _say(console, f"the report is {report}")
    show_steps(next_steps(run), console)


def show_steps(steps: tuple[Step, ...], console: Console) -> None:
    """Print commands as they can be typed."""
    for step in steps:
        _say(console, f"  {step.command}")


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
