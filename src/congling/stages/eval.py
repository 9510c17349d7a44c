"""Evaluate a model: held-out loss beside reference lines, or any of a dozen tasks with confidence intervals.

Reads a run or checkpoint, and its shards and documents or files; remembers the results in the run's
``results.json``::

    congling eval runs/book
    congling eval runs/book/run --shards runs/book/shards --documents runs/book/documents
    congling eval runs/book --tasks continuation,memorisation --data dictionary.jsonl --limit 100
    congling eval runs/world --tasks questions,arithmetic,couplets
    congling eval runs/book --tasks choice,letter --data cmmlu.jsonl --few-shot solved.jsonl --shots 5
    congling eval runs/book --lora runs/style
    congling eval runs/book --tasks list

What is measured with adapters is printed, and remembered in no run.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from congling.core.document import print_document
from congling.core.errors import UserError
from congling.infer.mixing import MixingCommand, mix
from congling.infer.options import Lora, LoraScaled
from congling.methods.options import AsJson

if TYPE_CHECKING:  # what measures loads only when something is measured
    from congling.data.problems import Findings
    from congling.evals.scores import Score
    from congling.methods.evaluation import Evaluation

COMMAND = MixingCommand


def command(
    model: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run, a checkpoint, or what `congling train` wrote.")
    ],
    lora: Lora = None,
    lora_scaled: LoraScaled = None,
    shards: Annotated[
        Path | None, typer.Option(help="Shards to score on; by default those beside the run.")
    ] = None,
    documents: Annotated[
        Path | None, typer.Option(help="Documents, to measure copying; by default beside the run.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="test, validation or train; by default test where there is one, else validation."),
    ] = None,
    context: Annotated[
        int | None, typer.Option(help="Window in tokens; by default those of training.")
    ] = None,
    limit_tokens: Annotated[int | None, typer.Option(help="Score only so many tokens.")] = None,
    copying: Annotated[
        bool, typer.Option(help="Also generate text and measure how much of it is copied.")
    ] = True,
    tasks: Annotated[
        str | None, typer.Option(help="Measure these instead, separated by commas; `list` shows all.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="[TASK=]FILE", help="Texts or questions to measure with; repeatable."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Cases of each task, 200 by default.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws the cases: equal seeds, equal scores.")] = 0,
    by: Annotated[str, typer.Option(help="domains: the field that tells them apart, or `file`.")] = "kind",
    prefixes: Annotated[str, typer.Option(help="continuation: tokens that are given.")] = "50,100,200",
    few_shot: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="choice: solved questions; repeatable.")
    ] = None,
    shots: Annotated[int, typer.Option(min=0, help="choice: how many of them are shown.")] = 0,
    chat: Annotated[
        bool | None,
        typer.Option("--chat/--no-chat", help="Ask through the template; by default if tuned for it."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score a model on held-out text, or by tasks."""
    from congling.core.console import Console
    from congling.methods.evaluation import measure, run

    console, adapters = Console(), mix(lora, lora_scaled)
    if tasks is None and data:
        tasks = "domains"
    if tasks is None:
        found = run(
            model,
            shards,
            documents=documents,
            split=split,
            context=context,
            limit_tokens=limit_tokens,
            copying=copying,
            adapters=adapters,
        )
        if as_json:
            print_document(found)
        else:
            console.print(table(found))
        return
    if tasks.strip() == "list":
        if as_json:
            from congling.evals.tasks import TASKS

            print_document(
                [
                    {"task": name, "measures": task.summary, "needs": task.needs}
                    for name, task in TASKS.items()
                ]
            )
        else:
            console.print(_listed())
        return
    settings = {
        "seed": seed,
        "by": by,
        "prefixes": _numbers(prefixes),
        "examples": tuple(few_shot or ()),
        "shots": shots,
        **({} if limit is None else {"limit": limit}),
    }
    scores, findings = measure(
        model, tasks, data or (), adapters=adapters, documents=documents, chat=chat, **settings
    )
    _show(scores, findings, console, as_json)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise UserError("prefixes are whole numbers of tokens", value=text, hint="such as --prefixes 50,100")
    return numbers


def _listed() -> Any:
    from rich.table import Table

    from congling.evals.tasks import TASKS

    table = Table("task", "what it measures", "needs")
    for name, task in TASKS.items():
        table.add_row(name, task.summary, task.needs)
    return table


def _show(scores: "Sequence[Score]", findings: "Findings", console: Any, as_json: bool) -> None:
    from congling.evals.score_tables import problem_lines, score_tables

    if as_json:
        print_document({"scores": scores, "left_out": findings.as_json()["problems"]})
        return
    for one in score_tables(scores):
        console.print(one)
    for line in problem_lines(findings):
        console.print(line, style="dim", highlight=False, markup=False)


def table(found: "Evaluation") -> Any:
    """The loss beside the reference lines, as a table for the terminal."""
    from congling.evals.score_tables import loss_table

    table = loss_table(found.loss, found.lines, found.split)
    if found.reading:
        table.caption += f"\n{found.reading}"
    if found.copying is not None:
        table.caption += f"\ncopied from the training text: {found.copying.rate:.1%} of generated text"
    if found.copying is not None and found.copying.longest:
        table.caption += f", longest {found.copying.longest} characters"
    if found.rules is not None:
        shown = ("grammar", "facts", "couplets", "sums")
        values = ((name, getattr(found.rules, name)) for name in shown)
        table.caption += f"\nright by the rules of the small world, in {found.rules.texts} texts: "
        table.caption += ", ".join(f"{name} {value:.1%}" for name, value in values if value is not None)
    return table
