"""Scores of a model: its held-out loss beside reference lines, or tasks; kept in the run they belong to.

::

    run or checkpoint, shards, documents ─ run() ─→ Evaluation ─┐
    run or checkpoint, files ─ measure() ─→ scores of tasks ────┴─→ results.json
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from congling.core import artifact, pointers
from congling.core.disk import Refused
from congling.core.errors import UserError
from congling.core.output import warn
from congling.core.progress import stage
from congling.data.config import SMALL_WORLD
from congling.data.corpus import documents as read_documents
from congling.data.problems import ReadingLog
from congling.data.shards import open_shards
from congling.data.token_split import TokenSplit, beginnings
from congling.evals import length
from congling.evals import tasks as registry
from congling.evals.bench import Bench
from congling.evals.copying import CopyReport, copy_report
from congling.evals.loss import LossReport, evaluate_loaded
from congling.evals.rules import RuleReport, rule_report
from congling.evals.scores import Score
from congling.evals.writing import written
from congling.infer.checkpoints import Loaded, load_checkpoint
from congling.infer.sampler import SamplingConfig
from congling.methods.former_model import former_model
from congling.plan.corpus_facts import reference_lines
from congling.report import record
from congling.report.recorded_scores import SCORES

Adapters = Sequence[tuple[Path | str, float]]
"""Adapters, and how strongly each acts."""


@dataclass(frozen=True)
class Evaluation:
    """What was measured."""

    split: str
    """Of which split the loss is."""
    loss: LossReport
    lines: dict[str, float]
    """Reference lines in bits per character, by name."""
    copying: CopyReport | None
    rules: RuleReport | None
    """Only for models of the small world."""
    reading: str = ""
    """How text was read, where that is worth a sentence."""

    @property
    def notes(self) -> list[str]:
        """What else is to be said of it, in lines."""
        lines = [self.reading] if self.reading else []
        if self.copying is not None:
            line = f"copied from the training text: {self.copying.rate:.1%} of generated text"
            longest = f", longest {self.copying.longest} characters" if self.copying.longest else ""
            lines.append(line + longest)
        if self.rules is not None:
            shown = ("grammar", "facts", "couplets", "sums")
            values = ((name, getattr(self.rules, name)) for name in shown)
            right = ", ".join(f"{name} {value:.1%}" for name, value in values if value is not None)
            lines.append(f"right by the rules of the small world, in {self.rules.texts} texts: {right}")
        return lines


def measure(
    model: Path | str,
    tasks: str,
    data: Sequence[str] = (),
    *,
    adapters: Adapters = (),
    documents: Path | str | None = None,
    chat: bool | None = None,
    base: Path | str | None = None,
    **settings: Any,
) -> tuple[list[Score], ReadingLog]:
    """Measure tasks (names separated by commas), and remember their scores in the run's ``results.json``, or
    that of a checkpoint which belongs to none.

    Args:
        model: a run, a checkpoint or a GGUF file.
        tasks: of ``congling.evals.tasks``.
        data: files of texts or questions; ``task=file`` for one task alone.
        adapters: on the model, and how strongly; the scores are then those of no run.
        documents: those the model was trained on; by default those beside the run.
        chat: ask through the chat template; by default if the model was tuned for it.
        base: the model before its context was extended; by default what the run leads to.
        settings: other fields of ``congling.evals.bench.Bench``.

    Returns:
        The scores, and what had to be left out on the way.

    Raises:
        UserError: no model, an unknown task, or a task lacks what it measures with.
    """
    names = registry.named(tasks)
    loaded = load_checkpoint(model, adapters=adapters)
    place = documents if documents is not None else beside(loaded.checkpoint.path, "documents")
    asked = loaded.tuned_for_chat if chat is None else chat
    if base is None and length.NAME in names:
        base = former_model(loaded.checkpoint, adapted=bool(adapters))
    known = None if place is None else Path(place)
    bench = Bench(loaded, documents=known, chat=asked, base=base, **settings)
    scores = registry.run(bench, names, data)
    if loaded.checkpoint.path.is_dir() and not adapters:  # an exported file is no place for them
        folder = loaded.checkpoint.path.parent.parent
        folder = folder if (folder / "metrics.jsonl").is_file() else loaded.checkpoint.path
        scored = record.mapping(record.results_of(folder).get(SCORES))
        _remember(folder, SCORES, _remembered(scored, scores, loaded.checkpoint.facts.get("step")))
    return scores, bench.findings


def _remember(folder: Path, name: str, value: Any) -> None:
    """Keep a result in the run; where that is not possible what was measured is shown all the same."""
    try:
        record.add_result(folder, name, value)
    except Refused as error:
        warn(f"this result is not kept: {error}")


def _remembered(known: Mapping[str, Any], fresh: Sequence[Score], step: object) -> dict[str, Any]:
    """Scores by label: a task replaces all that it gave before with the same files, old groups included.

    Each keeps the ``step`` of the checkpoint: a run that goes on does not take old scores along as its own.
    """
    again = {(score.task, score.data, score.shots) for score in fresh}

    def stays(label: str, score: Mapping[str, Any]) -> bool:
        task = label.partition("/")[0]
        return (task, score.get("data", ""), score.get("shots", 0)) not in again

    kept = {label: value for label, value in known.items() if stays(label, record.mapping(value))}
    return kept | {score.label: score.to_json() | {"step": step} for score in fresh}


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
    adapters: Adapters = (),
) -> Evaluation:
    """Score one split; the whole split of the final score is remembered in the run's ``results.json``.

    That is the test split where there is one, else the validation split, and the default. Where a budget
    leaves no time for all of it, ``part_tokens`` of it, evenly spread, stand for the whole.

    ``shards`` and ``documents`` are looked for beside the run when not given. Without documents copying is
    not measured. With ``adapters`` on the model nothing is remembered.

    Raises:
        UserError: no model or no shards, or they do not belong together.
    """
    loaded = load_checkpoint(model, adapters=adapters)
    place = shards if shards is not None else beside(loaded.checkpoint.path, "shards")
    if place is None:
        raise UserError("no shards beside the run", value=str(model), hint="name them with --shards")
    opened = open_shards(place, tokenizer=loaded.tokenizer, verify=True)
    name = opened.scored if split is None else next((one for one in opened.splits if one == split), None)
    if name is None:
        raise UserError("unknown split", value=split, hint=f"one of {', '.join(opened.splits)}")
    loss = evaluate_loaded(loaded, opened[name], context=context, limit_tokens=limit_tokens or part_tokens)
    lines = reference_lines(opened.summary, name)
    texts = documents if documents is not None else beside(loaded.checkpoint.path, "documents")
    prompted = opened[opened.scored] if opened[opened.scored].documents else opened["train"]
    copied = measure_copying(loaded, prompted, texts) if copying and texts is not None else None
    rules = measure_rules(loaded) if copying and texts is not None and of_the_small_world(texts) else None
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
def measure_copying(
    loaded: Loaded, split: TokenSplit, documents: Path | str, *, samples: int = 4, tokens: int = 200
) -> CopyReport:
    """Continue the beginnings of a split's documents, and look for what was written in the training text."""

    def training() -> Iterator[str]:
        return (document.text for document in read_documents(documents, "train"))

    prompts = beginnings(split, loaded.tokenizer, documents=samples, tokens=8)
    return copy_report(_written(loaded, prompts, tokens), training())


@stage("judging texts by the rules of the small world")
def measure_rules(loaded: Loaded, *, samples: int = 32, tokens: int = 200) -> RuleReport:
    """Let the model write documents of the small world from nothing, and judge them by its rules."""
    return rule_report(_written(loaded, [""] * samples, tokens))


def _written(loaded: Loaded, prompts: Sequence[str], tokens: int) -> list[str]:
    return written(loaded, prompts, tokens=tokens, sampling=SamplingConfig(temperature=0.8, seed=0))


def of_the_small_world(documents: Path | str) -> bool:
    """Whether finished documents are texts of the small world."""
    config = artifact.opened(documents, "documents").facts.get("config")
    return isinstance(config, Mapping) and config.get("sources") == [SMALL_WORLD]


def beside(checkpoint: Path, name: str) -> Path | None:
    """The directory ``name`` that stands beside the run a checkpoint belongs to."""
    run_directory = checkpoint.parent.parent
    places = (run_directory / name, run_directory.parent / name)
    return next((place for place in places if artifact.exists(place)), None)
