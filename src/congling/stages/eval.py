"""Score a model: held-out loss beside reference lines, or any of a dozen tasks, each with its interval.

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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from congling.core.document import print_document
from congling.core.errors import UserError
from congling.core.progress import stage
from congling.infer.mixing import Mix, MixingCommand, mix
from congling.infer.options import Lora, LoraScaled
from congling.methods.options import AsJson

if TYPE_CHECKING:
    from congling.data.problems import Findings
    from congling.evals.copying import CopyReport
    from congling.evals.loss import LossReport
    from congling.evals.rules import RuleReport
    from congling.evals.scores import Score

SCORES = "scores"
"""Name of the scores of tasks in ``results.json``: a table by the name of each score."""
COMMAND = MixingCommand


@dataclass(frozen=True)
class Evaluation:
    """What was measured."""

    split: str
    """Of which split the loss is."""
    loss: "LossReport"
    lines: dict[str, float]
    """Reference lines in bits per character, by name."""
    copying: "CopyReport | None"
    rules: "RuleReport | None"
    """Only for models of the small world."""
    reading: str = ""
    """How text was read, where that is worth a sentence."""


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


def measure(
    model: Path | str,
    tasks: str,
    data: Sequence[str] = (),
    *,
    adapters: Mix | None = None,
    documents: Path | str | None = None,
    chat: bool | None = None,
    **settings: Any,
) -> "tuple[list[Score], Findings]":
    """Measure tasks (names separated by commas), and remember their scores in the run's ``results.json``.

    Args:
        model: a run, a checkpoint or a GGUF file.
        tasks: of ``congling.evals.tasks``.
        data: files of texts or questions; ``task=file`` for one task alone.
        adapters: on the model, and how strongly; the scores are then those of no run.
        documents: those the model was trained on; by default those beside the run.
        chat: ask through the chat template; by default if the model was tuned for it.
        settings: other fields of ``congling.evals.bench.Bench``.

    Returns:
        The scores, and what had to be left out on the way.

    Raises:
        UserError: no model, an unknown task, or a task lacks what it measures with.
    """
    from congling.evals import tasks as registry
    from congling.evals.bench import Bench
    from congling.infer.checkpoints import load_checkpoint
    from congling.report import record

    names = registry.named(tasks)
    loaded = load_checkpoint(model, adapters=adapters or ())
    place = documents if documents is not None else _beside(loaded.checkpoint.path, "documents")
    asked = loaded.tuned_for_chat if chat is None else chat
    bench = Bench(loaded, documents=None if place is None else Path(place), chat=asked, **settings)
    scores = registry.run(bench, names, data)
    folder = loaded.checkpoint.path.parent.parent
    step = loaded.checkpoint.facts.get("step")
    of_the_run = loaded.checkpoint.path.is_dir() and not adapters  # no exported file beside it
    if of_the_run and (folder / "metrics.jsonl").is_file():
        known = record.mapping(record.read(folder).results.get(SCORES))
        _remember(folder, SCORES, _remembered(known, scores, step))
    return scores, bench.findings


def _remember(folder: Path, name: str, value: Any) -> None:
    """Keep a result in the run; where that is not possible what was measured is shown all the same."""
    from congling.core.disk import Refused
    from congling.core.output import warn
    from congling.report import record

    try:
        record.add_result(folder, name, value)
    except Refused as error:
        warn(f"this result is not kept in the run: {error}")


def _remembered(known: Mapping[str, Any], fresh: "Sequence[Score]", step: object) -> dict[str, Any]:
    """Scores by label: a task replaces all that it gave before with the same files, old groups included.

    Each keeps the ``step`` of the checkpoint: a run that goes on does not take old scores along as its own.
    """
    from congling.report.record import mapping

    again = {(score.task, score.data, score.shots) for score in fresh}

    def stays(label: str, score: Mapping[str, Any]) -> bool:
        task = label.partition("/")[0]
        return (task, score.get("data", ""), score.get("shots", 0)) not in again

    kept = {label: value for label, value in known.items() if stays(label, mapping(value))}
    return kept | {score.label: score.to_json() | {"step": step} for score in fresh}


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


def run(
    model: Path | str,
    shards: Path | str | None = None,
    *,
    documents: Path | str | None = None,
    split: str | None = None,
    context: int | None = None,
    limit_tokens: int | None = None,
    part_tokens: int | None = None,
    copying: bool = True,
    adapters: Mix | None = None,
) -> Evaluation:
    """Score one split; the whole split of the final score is remembered in the run's ``results.json``.

    That is the test split where there is one, else the validation split, and the default. Where a budget
    leaves no time for all of it, ``part_tokens`` of it, evenly spread, stand for the whole.

    ``shards`` and ``documents`` are looked for beside the run when not given. Without documents copying is
    not measured. With ``adapters`` on the model nothing is remembered.

    Raises:
        UserError: no model or no shards, or they do not belong together.
    """
    from congling.core import pointers
    from congling.data.shards import open_shards
    from congling.evals.loss import evaluate_loaded
    from congling.infer.checkpoints import load_checkpoint
    from congling.plan.corpus_facts import reference_lines

    loaded = load_checkpoint(model, adapters=adapters or ())
    place = shards if shards is not None else _beside(loaded.checkpoint.path, "shards")
    if place is None:
        raise UserError("no shards beside the run", value=str(model), hint="name them with --shards")
    opened = open_shards(place, tokenizer=loaded.tokenizer, verify=True)
    name = opened.scored if split is None else next((one for one in opened.splits if one == split), None)
    if name is None:
        raise UserError("unknown split", value=split, hint=f"one of {', '.join(opened.splits)}")
    loss = evaluate_loaded(loaded, opened[name], context=context, limit_tokens=limit_tokens or part_tokens)
    lines = reference_lines(opened.summary, name)
    texts = documents if documents is not None else _beside(loaded.checkpoint.path, "documents")
    copied = _copying(loaded, opened, texts) if copying and texts is not None else None
    rules = _rules(loaded) if copying and texts is not None and _of_the_small_world(texts) else None
    folder = loaded.checkpoint.path.parent.parent
    own = not adapters and loaded.checkpoint.parents.get("shards") == opened.artifact.fingerprint
    # The run's result is that of the checkpoint it hands on, read as in training, of its own whole text.
    own = own and (folder / "metrics.jsonl").is_file()
    own = own and loaded.checkpoint.path == pointers.handed_on(folder, say=lambda text: None)  # said above
    if own and name == opened.scored and limit_tokens is None and context is None:
        _remember(folder, "held_out", loss.to_json() | {"split": name})
        if copied is not None:
            _remember(folder, "copying", copied.to_json())
        if rules is not None:
            _remember(folder, "rules", rules.to_json())
    told = [loaded.reading.told()] if loaded.reading.told() else []
    if part_tokens is not None:
        told.append(f"scored {loss.tokens:,} of {len(opened[name].tokens):,} tokens, spread over the text")
    return Evaluation(name, loss, lines, copied, rules, "; ".join(told))


@stage("looking for copied text")
def _copying(
    loaded: Any, shards: Any, documents: Path | str, *, samples: int = 4, tokens: int = 200
) -> "CopyReport":
    """Continue the beginnings of held-out documents, and look for what was written in the training text."""
    from congling.data.corpus import documents as read
    from congling.data.shards import beginnings
    from congling.evals.copying import copy_report

    def training() -> Iterator[str]:
        return (document.text for document in read(documents, "train"))

    split = shards[shards.scored] if shards[shards.scored].documents else shards["train"]
    prompts = beginnings(split, loaded.tokenizer, documents=samples, tokens=8)
    return copy_report(_written(loaded, prompts, tokens), training())


@stage("judging texts by the rules of the small world")
def _rules(loaded: Any, *, samples: int = 32, tokens: int = 200) -> "RuleReport":
    """Let the model write documents of the small world from nothing, and judge them by its rules."""
    from congling.evals.rules import rule_report

    return rule_report(_written(loaded, [""] * samples, tokens))


def _written(loaded: Any, prompts: Sequence[str], tokens: int) -> list[str]:
    from congling.evals.writing import written
    from congling.infer.sampler import SamplingConfig

    return written(loaded, prompts, tokens=tokens, sampling=SamplingConfig(temperature=0.8, seed=0))


def _of_the_small_world(documents: Path | str) -> bool:
    from congling.core import artifact
    from congling.data.config import SMALL_WORLD

    config = artifact.opened(documents, "documents").facts.get("config")
    return isinstance(config, Mapping) and config.get("sources") == [SMALL_WORLD]


def _beside(checkpoint: Path, name: str) -> Path | None:
    """The directory ``name`` that stands beside the run a checkpoint belongs to."""
    from congling.core import artifact

    run_directory = checkpoint.parent.parent
    places = (run_directory / name, run_directory.parent / name)
    return next((place for place in places if artifact.exists(place)), None)


def table(found: Evaluation) -> Any:
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
