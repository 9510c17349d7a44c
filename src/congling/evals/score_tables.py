"""Measurements as tables for the terminal."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from congling.core.units import plural
from congling.data.problems import ReadingLog
from congling.data.split import HELD_OUT
from congling.evals.loss import LossReport
from congling.evals.score_layouts import LAYOUTS, Layout
from congling.evals.scores import Score, labelled, shown
from congling.evals.tasks import Task


def score_tables(scores: Sequence[Score]) -> list[Any]:
    """One table a task: values, their intervals, what guessing gives, the number of cases, the protocols.

    Reference lines are dim. A protocol shared by several rows is written once, below. Some tasks have a
    table of their own kind.
    """
    groups = groupby(scores, key=lambda score: (labelled(score.task, score.data, score.shots), score.task))
    return [
        _laid_out(name, list(rows), LAYOUTS[task]) if task in LAYOUTS else _table(name, list(rows))
        for (name, task), rows in groups
    ]


def _table(name: str, scores: Sequence[Score]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table("score", title=Text(name), title_justify="left", caption_justify="left")
    for column in ("value", "95 % interval", "chance", "n"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    protocols = list(dict.fromkeys(score.protocol for score in scores))
    for score in scores:
        between = (
            ""
            if score.low is None or score.high is None
            else (f"{shown(score.low, score.unit)} … {shown(score.high, score.unit)}")
        )
        chance = "" if score.chance is None else shown(score.chance, score.unit)
        mark = f" [{protocols.index(score.protocol) + 1}]"
        table.add_row(
            Text(score.name.partition("/")[2] + mark),
            shown(score.value, score.unit),
            between,
            chance,
            f"{score.n:,}",
            score.unit,
            style="dim" if score.reference else "",
        )
    table.caption = Text("\n".join(f"[{number}] {text}" for number, text in enumerate(protocols, 1)))
    return table


def _laid_out(name: str, scores: Sequence[Score], layout: Layout) -> Any:
    """A table of a task's own kind."""
    from rich.table import Table
    from rich.text import Text

    head, rows, notes = layout(scores)
    table = Table(title=Text(name), title_justify="left", caption_justify="left")
    for column in head:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*row)
    table.caption = Text("\n".join(notes))
    return table


def problem_lines(findings: ReadingLog) -> list[str]:
    """What was left out or changed: a line a kind, with its number and its first place."""
    lines = []
    for kind, count in findings.counts.most_common():
        first = next((example for example in findings.examples if example.kind == kind), None)
        where = ""
        if first is not None:
            where = f", first {first.file}{'' if first.line is None else f':{first.line}'}: {first.reason}"
        lines.append(f"{count:,} × {kind}{where}")
    return lines + findings.sentences


def task_table(tasks: Mapping[str, Task]) -> Any:
    """What can be measured, and with what."""
    from rich.table import Table

    table = Table("task", "what it measures", "needs")
    for name, task in tasks.items():
        table.add_row(name, task.summary, task.needs)
    return table


def loss_table(loss: LossReport, lines: Mapping[str, float], split: str, notes: Sequence[str] = ()) -> Any:
    """A held-out loss in every unit, beside the reference lines of the same text; notes stand below."""
    from rich.table import Table

    table = Table(
        "model",
        "bits/character",
        "bits/byte",
        "nats/token",
        "perplexity",
        title=f"loss on {HELD_OUT.get(split, split)} text",
    )
    for name, value in lines.items():
        table.add_row(f"{name} (reference)", f"{value:.3f}", "", "", "", style="dim")
    table.add_row(
        "this model",
        f"{loss.bits_per_character:.3f}",
        f"{loss.bits_per_byte:.3f}",
        f"{loss.nats_per_token:.4f}",
        f"{loss.perplexity:,.1f}",
        style="bold",
    )
    counts = (
        f"{loss.tokens:,} {plural(loss.tokens, 'token')}, "
        f"{loss.characters:,} {plural(loss.characters, 'character')}"
    )
    table.caption = "\n".join((counts, *notes))
    return table
