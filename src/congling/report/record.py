"""What a run left behind, read from its directory without trusting it: numbers, samples, facts; no torch.

A row that is no JSON object, or whose numbers are none, is left out; a huge file is read to a bound. So a
damaged or hand-edited run still gives a report of what is there, and of what is left out.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from congling.core import terminal
from congling.core.artifact import write_text
from congling.core.disk import reading_from, writing_to
from congling.core.errors import UserError
from congling.core.numbers import finite
from congling.core.output import warn
from congling.plan.planning import PLAN_FILE
from congling.report import old_keys
from congling.report.method import Method, method_of
from congling.report.record_files import changed, json_of, mapping, rows_of, toml_of

RESULTS_FILE, RECIPE_FILE = "results.json", "recipe.toml"


@dataclass(frozen=True)
class StepRow:
    """One training step."""

    step: int
    tokens: float
    loss: float
    """Nats per token; NaN in a skipped step."""
    bits_per_character: float
    """The same loss in bits per character; NaN where the run did not know the ratio."""
    gradient_norm: float
    lr: float
    """Learning rate, of the block matrices where several groups of weights have their own."""
    skipped: bool


@dataclass(frozen=True)
class HeldOutRow:
    """One held-out loss during training."""

    step: int
    tokens: float
    bits_per_character: float
    values: Mapping[str, float] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Sample:
    """Text generated during training."""

    step: int
    prompt: str
    text: str
    ended: bool | None = None
    """Whether the model ended the text itself; None where that is not known."""
    reward: float | None = None


@dataclass(frozen=True)
class RunRecord:
    """Everything a report or an explanation needs about one run."""

    path: Path
    steps: Sequence[StepRow]
    held_out: Sequence[HeldOutRow]
    timing: Sequence[Mapping[str, Any]]
    samples: Sequence[Sample]
    events: Sequence[Mapping[str, Any]]
    config: Mapping[str, Any]
    plan: Mapping[str, Any]
    """Content of ``plan.json``; empty without one."""
    results: Mapping[str, Any]
    """Content of ``results.json``: what stages measured after training, by name."""
    reference_lines: Mapping[str, float]
    """Bits per character by name: uniform, unigram, bigram, and floor where it is known; of the validation
    text, which is looked at during training."""
    test_reference_lines: Mapping[str, float] = field(default_factory=dict)
    """The same of the test text, where there is one."""
    metrics: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    """All rows of ``metrics.jsonl`` as they stand there: what a method measures beyond the loss."""
    faults: Sequence[str] = ()
    """What could not be read, or is not what it was: a sentence each."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """What was asked for, where that was kept: ``recipe.toml``."""

    @cached_property
    def method(self) -> Method:
        """What made the run."""
        columns = {name for row in self.metrics for name in row}
        return method_of(self.config, self.plan.get("method"), columns)

    @property
    def place(self) -> Path:
        """What a person calls the run: of ``congling train`` its --out, else the run directory."""
        around = self.path.parent
        whole = self.path.name == "run" and any((around / part).is_dir() for part in ("documents", "shards"))
        return around if whole else self.path

    @cached_property
    def looks(self) -> Mapping[int, Mapping[str, float]]:
        """Held-out numbers by step, without the ``validation_`` before their names."""
        found: dict[int, dict[str, float]] = {}
        for row in self.metrics:
            values = {
                name.removeprefix("validation_"): value
                for name in row
                if name.startswith("validation_") and (value := numeric(row[name])) is not None
            }
            if values and (step := numeric(row.get("step"))) is not None:
                found[int(step)] = values
        return found

    def seconds_at(self) -> dict[int, float]:
        """Wall-clock seconds of training by step, where the timing log has them.

        Each time a run is gone on with, the log counts from zero: what was spent before is added, steps that
        had to be made again included.
        """
        found: dict[int, float] = {}
        before = last = 0.0
        for row in self.timing:
            step, seconds = numeric(row.get("step")), numeric(row.get("seconds"))
            if step is None or seconds is None:
                continue
            before, last = before + (last if seconds < last else 0.0), seconds
            found[int(step)] = before + seconds
        return found

    @property
    def scored(self) -> str:
        """The split of the final score ``results["held_out"]``; before there were two, validation."""
        return "test" if mapping(self.results.get("held_out")).get("split") == "test" else "validation"

    @property
    def scored_lines(self) -> Mapping[str, float]:
        """The reference lines of the text of the final score."""
        return self.test_reference_lines if self.scored == "test" else self.reference_lines

    @property
    def best(self) -> HeldOutRow | None:
        """The lowest held-out loss."""
        return min(self.held_out, key=lambda row: row.bits_per_character, default=None)


def read(path: Path | str) -> RunRecord:
    """Read a run directory.

    Raises:
        UserError: there is no directory, or it holds no metrics.
    """
    path = Path(path)
    with reading_from(path):
        return _read(path)


def _read(path: Path) -> RunRecord:
    if not (path / "metrics.jsonl").is_file():
        state = "holds no metrics.jsonl" if path.is_dir() else "does not exist"
        raise UserError(
            f"the run directory {state}", value=str(path), hint="name the directory that --out named"
        )
    faults: list[str] = []
    metrics = rows_of(path / "metrics.jsonl", faults)
    plan = old_keys.plan_of(json_of(path / PLAN_FILE, faults))
    config = old_keys.config_of(toml_of(path / "config.toml", faults))
    recipe, peak = old_keys.recipe_of(toml_of(path / RECIPE_FILE, faults)), peak_lr(config)
    steps = [row for one in metrics if (row := _step(one, peak)) is not None]
    tokens = {row.step: row.tokens for row in steps}
    corpus = mapping(plan.get("corpus"))
    return RunRecord(
        path=path,
        steps=steps,
        held_out=[row for one in metrics if (row := _held_out(one, tokens)) is not None],
        timing=rows_of(path / "timing.jsonl", faults),
        samples=[row for one in rows_of(path / "samples.jsonl", faults) for row in _samples(one)],
        events=rows_of(path / "events.jsonl", faults),
        config=config,
        plan=plan,
        results=json_of(path / RESULTS_FILE, faults),
        reference_lines=_numbers(corpus.get("reference_lines")),
        test_reference_lines=_numbers(corpus.get("test_reference_lines")),
        metrics=metrics,
        faults=(*faults, *changed(path)),
        recipe=recipe,
    )


def locate(path: Path | str) -> Path:
    """The run directory that ``path`` is, or that stands in it as ``run`` (what ``congling train``
    writes)."""
    path = Path(path)
    with reading_from(path):
        return (
            path / "run"
            if (path / "run" / "metrics.jsonl").is_file() and not (path / "metrics.jsonl").is_file()
            else path
        )


def add_result(path: Path | str, name: str, value: Any) -> None:
    """Remember a measurement of a finished run (a JSON value) under a name in its ``results.json``; so too
    of a checkpoint that belongs to no run."""
    if (Path(path) / "metrics.jsonl").is_file():
        terminal.keep_log(Path(path))
    file = Path(path) / RESULTS_FILE
    faults: list[str] = []
    with reading_from(file):
        known = json_of(file, faults)
    if faults:
        kept = file.with_name(file.name + ".damaged")
        with writing_to(kept, file):
            file.replace(kept)
        warn(f"{file} cannot be read: it is kept as {kept.name}, and begun anew")
    write_text(file, json.dumps({**known, name: value}, ensure_ascii=False, indent=1) + "\n")


def results_of(path: Path | str) -> Mapping[str, Any]:
    """What was measured of a run or checkpoint, by name; empty where nothing was, or it cannot be read."""
    return json_of(Path(path) / RESULTS_FILE, [])


def peak_lr(config: Mapping[str, Any]) -> float | None:
    """The peak learning rate that a run's configuration names."""
    return numeric(mapping(mapping(config.get("train")).get("optimizer")).get("learning_rate"))


def _numbers(value: object) -> Mapping[str, float]:
    """The numbers of a table."""
    known = mapping(value)
    return {name: number for name in known if (number := numeric(known[name])) is not None}


def numeric(value: object) -> float | None:
    """``value`` as a number that can be reckoned with, else ``None``."""
    return finite(value)


def _step(row: Mapping[str, Any], peak: float | None) -> StepRow | None:
    step, tokens = numeric(row.get("step")), numeric(row.get("tokens"))
    skipped = row.get("skipped") is True
    loss = numeric(row.get("loss"))
    if step is None or tokens is None or (loss is None and not skipped):
        return None
    lr, factor = numeric(row.get("lr")), numeric(row.get("rate"))
    if lr is None and factor is not None:  # older logs hold its share of the peak
        lr = factor * (1.0 if peak is None else peak)
    values = (numeric(row.get("bits_per_character")), numeric(row.get("gradient_norm")), lr)
    bits, norm, lr = (math.nan if value is None else value for value in values)
    return StepRow(int(step), tokens, math.nan if loss is None else loss, bits, norm, lr, skipped)


def _held_out(row: Mapping[str, Any], tokens: Mapping[int, float]) -> HeldOutRow | None:
    step, bits = numeric(row.get("step")), numeric(row.get("validation_bits_per_character"))
    if step is None or bits is None:
        return None
    values = {
        name.removeprefix("validation_"): value for name in row if (value := numeric(row[name])) is not None
    }
    return HeldOutRow(int(step), tokens.get(int(step), 0.0), bits, values)


def _samples(row: Mapping[str, Any]) -> Iterator[Sample]:
    step, prompt, text = numeric(row.get("step")), row.get("prompt"), row.get("text")
    if step is not None and isinstance(prompt, str) and isinstance(text, str):
        ended = row.get("ended")
        known = ended if isinstance(ended, bool) else None
        yield Sample(int(step), prompt, text, known, numeric(row.get("reward")))
