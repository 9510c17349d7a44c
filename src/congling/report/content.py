"""What a report says, as plain values: tiles, findings, charts, tables, samples, commands. Pages only lay it
out."""

from dataclasses import dataclass, field
from pathlib import Path

import tomli_w

from congling.core.diagnosis import Diagnosis
from congling.core.units import show_count
from congling.report.drawing import Chart
from congling.report.explain import everything
from congling.report.method_tables import method_tables
from congling.report.next_steps import Step, next_steps
from congling.report.origin import how_to_reproduce, installed
from congling.report.record import RunRecord, Sample
from congling.report.recorded_scores import score_tables
from congling.report.run_charts import charts
from congling.report.run_tables import Table, tables
from congling.report.score_charts import score_charts
from congling.report.tiles import Tile, tiles
from congling.report.weights import (
    characters_a_token,
    lengths_of,
    limit,
    model_of,
    parameters_of,
    trained_of,
)

LONGEST_SAMPLE = 1500
MOST_PROMPTS = 8


@dataclass(frozen=True)
class Content:
    """A whole report."""

    title: str
    subtitle: str
    tiles: tuple[Tile, ...]
    findings: tuple[Diagnosis, ...]
    charts: tuple[Chart, ...]
    tables: tuple[Table, ...]
    samples: tuple[tuple[str, tuple[Sample, ...]], ...]
    steps: tuple[Step, ...]
    config: str
    reproduce: str
    note: str = ""
    """What everybody should know who is handed the model."""
    version: str = field(default_factory=lambda: installed("congling"))


def content(run: RunRecord) -> Content:
    """Gather everything a report of ``run`` says; what was not recorded is left out."""
    return Content(
        title=_title(run.path.resolve()),
        subtitle=_subtitle(run),
        tiles=tuple(tiles(run)),
        findings=tuple(everything(run)),
        charts=(*charts(run), *score_charts(run.results)),
        tables=(*method_tables(run), *tables(run), *score_tables(run.results)),
        samples=tuple(_samples(run)),
        steps=next_steps(run),
        config=tomli_w.dumps(dict(run.config)) if run.config else "",
        reproduce=how_to_reproduce(run),
        note=limit(model_of(run), characters_a_token(run), lengths_of(run)),
    )


def _title(path: Path) -> str:
    """Name of the run; what `congling train` wrote is called as its --out."""
    return path.parent.name if path.name == "run" and path.parent.name else path.name


def _subtitle(run: RunRecord) -> str:
    """What was done to which model, in how many steps."""
    model, total, trained = model_of(run), parameters_of(run), trained_of(run)
    parts = [run.method.what]
    parts += [f"{model.num_hidden_layers} layers × {model.hidden_size}"] if model is not None else []
    if total:
        beside = f", {show_count(trained)} of an adapter trained" if trained and trained != total else ""
        parts.append(f"{show_count(total)} parameters{beside}")
    parts += [f"context {model.max_position_embeddings}"] if model is not None else []
    steps = run.steps[-1].step if run.steps else 0
    return ", ".join([*parts, f"{steps:,} steps"])


def _samples(run: RunRecord) -> list[tuple[str, tuple[Sample, ...]]]:
    """Samples by prompt, in order of steps, each cut to a readable length."""
    prompts = dict.fromkeys(sample.prompt for sample in run.samples)
    cut = [
        Sample(sample.step, sample.prompt, sample.text[:LONGEST_SAMPLE], sample.ended, sample.reward)
        for sample in run.samples
    ]
    return [
        (prompt, tuple(sample for sample in cut if sample.prompt == prompt))
        for prompt in list(prompts)[:MOST_PROMPTS]
    ]
