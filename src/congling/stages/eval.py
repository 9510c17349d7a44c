"""Evaluate a model: held-out loss beside reference lines, or any of a dozen tasks with confidence intervals.

Reads a run or checkpoint, and its shards and documents or files; remembers the results in the run's
``results.json``::

    congling eval runs/book
    congling eval runs/book/run --shards runs/book/shards --documents runs/book/documents
    congling eval runs/book --tasks continuation,memorisation --data dictionary.jsonl --limit 100
    congling eval runs/world --tasks questions,arithmetic,couplets
    congling eval runs/book --tasks choice,letter --data cmmlu.jsonl --few-shot solved.jsonl --shots 5
    congling eval runs/long --tasks length --base runs/book
    congling eval runs/book --lora runs/style
    congling eval runs/book --tasks list

What is measured with adapters is printed, and remembered in no run.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from congling.core.document import print_document
from congling.core.errors import UserError
from congling.infer.mixing import MixingCommand, mix
from congling.infer.options import Lora, LoraScaled
from congling.methods.options import AsJson

COMMAND = MixingCommand

_Model = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run, a checkpoint, or what `congling train` wrote.")
]
_Shards = Annotated[Path | None, typer.Option(help="Shards to score on; by default those beside the run.")]
_Documents = Annotated[
    Path | None, typer.Option(help="Documents, to measure copying; by default beside the run.")
]
_Split = Annotated[
    str | None,
    typer.Option(help="test, validation or train; by default test where there is one, else validation."),
]
_Context = Annotated[
    int | None, typer.Option(min=1, help="Window in tokens; by default those of training. Also for length.")
]
_LimitTokens = Annotated[int | None, typer.Option(help="Score only so many tokens.")]
_Copying = Annotated[bool, typer.Option(help="Also generate text and measure how much of it is copied.")]
_Tasks = Annotated[
    str | None, typer.Option(help="Measure these instead, separated by commas; `list` shows all.")
]
_Data = Annotated[
    list[str] | None,
    typer.Option(metavar="[TASK=]FILE", help="Texts or questions to measure with; repeatable."),
]
_Limit = Annotated[int | None, typer.Option(min=1, help="Cases of each task, 200 by default.")]
_Seed = Annotated[int, typer.Option(min=0, help="Draws the cases: equal seeds, equal scores.")]
_By = Annotated[str, typer.Option(help="domains: the field that tells them apart, or `file`.")]
_Base = Annotated[
    Path | None,
    typer.Option(metavar="RUN", help="length: the model before its context was extended, if not known."),
]
_Prefixes = Annotated[str, typer.Option(help="continuation: tokens that are given.")]
_FewShot = Annotated[
    list[str] | None, typer.Option(metavar="FILE", help="choice: solved questions; repeatable.")
]
_Shots = Annotated[int, typer.Option(min=0, help="choice: how many of them are shown.")]
_Chat = Annotated[
    bool | None,
    typer.Option("--chat/--no-chat", help="Ask through the template; by default if tuned for it."),
]


def command(
    model: _Model,
    lora: Lora = None,
    lora_scaled: LoraScaled = None,
    shards: _Shards = None,
    documents: _Documents = None,
    split: _Split = None,
    context: _Context = None,
    limit_tokens: _LimitTokens = None,
    copying: _Copying = True,
    tasks: _Tasks = None,
    data: _Data = None,
    limit: _Limit = None,
    seed: _Seed = 0,
    by: _By = "kind",
    base: _Base = None,
    prefixes: _Prefixes = "50,100,200",
    few_shot: _FewShot = None,
    shots: _Shots = 0,
    chat: _Chat = None,
    as_json: AsJson = False,
) -> None:
    """Score a model on held-out text, or by tasks."""
    place: dict[str, Any] = {"documents": documents, "adapters": mix(lora, lora_scaled)}
    if base is not None and tasks is None:
        raise UserError("--base is for tasks", value=str(base), hint="add --tasks length")
    if tasks is None and not data:
        reading = {"split": split, "context": context, "limit_tokens": limit_tokens, "copying": copying}
        _held_out(model, shards, place | reading, as_json)
    elif tasks is not None and tasks.strip() == "list":
        _list(as_json)
    else:
        cases = {"seed": seed, "by": by, "prefixes": _numbers(prefixes), "chat": chat}
        cases |= {"base": base, "context": context}
        shown = {"examples": tuple(few_shot or ()), "shots": shots}
        most = {} if limit is None else {"limit": limit}
        _measured(model, tasks or "domains", data or [], place | cases | shown | most, as_json)


def _held_out(model: Path, shards: Path | None, options: dict[str, Any], as_json: bool) -> None:
    from congling.core.console import Console
    from congling.evals.score_tables import loss_table
    from congling.methods.evaluation import run

    found = run(model, shards, **options)
    if as_json:
        print_document(found)
    else:
        Console().print(loss_table(found.loss, found.lines, found.split, found.notes))


def _list(as_json: bool) -> None:
    from congling.core.console import Console
    from congling.evals.score_tables import task_table
    from congling.evals.tasks import TASKS

    if as_json:
        rows = [{"task": name, "measures": task.summary, "needs": task.needs} for name, task in TASKS.items()]
        print_document(rows)
    else:
        Console().print(task_table(TASKS))


def _measured(model: Path, tasks: str, data: list[str], options: dict[str, Any], as_json: bool) -> None:
    from congling.core.console import Console
    from congling.evals.score_tables import problem_lines, score_tables
    from congling.methods.evaluation import measure

    scores, findings = measure(model, tasks, data, **options)
    if as_json:
        print_document({"scores": scores, "left_out": findings.as_json()["problems"]})
        return
    console = Console()
    for table in score_tables(scores):
        console.print(table)
    for line in problem_lines(findings):
        console.print(line, style="dim", highlight=False, markup=False)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise UserError("prefixes are whole numbers of tokens", value=text, hint="such as --prefixes 50,100")
    return numbers
