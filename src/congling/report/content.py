"""What a report says, as plain values: tiles, findings, charts, tables, samples. Pages only lay it out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from congling.core.units import show_count, show_seconds
from congling.data.split import HELD_OUT
from congling.plan.explain import ANEW, everything
from congling.plan.findings import Finding
from congling.plan.record import RunRecord, Sample, mapping, numeric
from congling.report.charts import Reference, Series, line_chart
from congling.report.origin import how_to_reproduce, installed
from congling.report.tables import REFERENCES, Table, tables, total_seconds

LONGEST_SAMPLE = 1500
_OF_THE_START = ("over-budget", "very-long", "memory", "disk")
"""Codes of what a plan says of time and room: a run that is over has had them."""
SMALL = (480, 270)
"""Size of the charts that stand two in a row."""


@dataclass(frozen=True)
class Tile:
    """A number and what it is."""

    value: str
    label: str


@dataclass(frozen=True)
class Chart:
    """A picture: inline for the page, standalone for a file."""

    title: str
    file: str
    svg: str
    standalone: str


@dataclass(frozen=True)
class Content:
    """A whole report."""

    title: str
    subtitle: str
    tiles: tuple[Tile, ...]
    findings: tuple[Finding, ...]
    charts: tuple[Chart, ...]
    tables: tuple[Table, ...]
    samples: tuple[tuple[str, tuple[Sample, ...]], ...]
    config: str
    reproduce: str
    version: str = field(default_factory=lambda: installed("congling"))


def content(run: RunRecord) -> Content:
    """Gather everything a report of ``run`` says; what was not recorded is left out."""
    planned = [Finding(**one) for one in _planned_findings(run)]
    return Content(
        title=_title(run.path.resolve()),
        subtitle=_subtitle(run),
        tiles=tuple(_tiles(run)),
        findings=(*everything(run), *planned),
        charts=tuple(_charts(run)),
        tables=tables(run),
        samples=tuple(_samples(run)),
        config=tomli_w.dumps(dict(run.config)) if run.config else "",
        reproduce=how_to_reproduce(run),
    )


def _title(path: Path) -> str:
    """Name of the run; what `congling train` wrote is called as its --out."""
    return path.parent.name if path.name == "run" and path.parent.name else path.name


def _subtitle(run: RunRecord) -> str:
    model, train = mapping(run.plan.get("model")), mapping(run.plan.get("train"))
    total = numeric(mapping(run.plan.get("cost")).get("total_parameters"))
    parts = [f"{model['layers']} layers × {model['width']}"] if {"layers", "width"} <= model.keys() else []
    parts += [f"{show_count(total)} parameters"] if total else []
    parts += [f"context {train['context']}"] if "context" in train else []
    steps = run.steps[-1].step if run.steps else 0
    return ", ".join([*parts, f"{steps:,} steps"])


def _tiles(run: RunRecord) -> list[Tile]:
    tiles = []
    held_out, best = mapping(run.results.get("held_out")), run.best
    bits = numeric(held_out.get("bits_per_character")) or (best.bits_per_character if best else None)
    if bits is not None:
        tiles.append(Tile(f"{bits:.3f}", f"bits per character, {HELD_OUT[run.scored]}"))
    perplexity = numeric(held_out.get("perplexity"))
    if perplexity is not None:
        tiles.append(Tile(f"{perplexity:,.1f}", "perplexity a token"))
    rate = numeric(mapping(run.results.get("copying")).get("rate"))
    if rate is not None:
        tiles.append(Tile(f"{rate:.0%}", "of generated text copied verbatim"))
    if run.steps:
        passes = numeric(mapping(run.plan.get("cost")).get("passes"))
        tiles.append(
            Tile(
                show_count(run.steps[-1].tokens), "tokens seen" + (f", {passes:.1f} passes" if passes else "")
            )
        )
    seconds = total_seconds(run)
    if seconds:
        tiles.append(Tile(show_seconds(seconds), "training time"))
    speed = _median(run, "tokens_per_second")
    if speed:
        share = _median(run, "utilisation")
        tiles.append(
            Tile(f"{show_count(speed)}", "tokens/s" + (f", {share:.0%} of the matmul peak" if share else ""))
        )
    return tiles


def _charts(run: RunRecord) -> list[Chart]:
    references = [
        Reference(name, run.reference_lines[name]) for name in REFERENCES if name in run.reference_lines
    ]
    train = [(row.tokens, row.bits_per_character) for row in run.steps]
    held_out = [(row.tokens, row.bits_per_character) for row in run.held_out]
    at, looked_at = run.seconds_at(), HELD_OUT["validation"]
    minutes = [(at[row.step] / 60, row.bits_per_character) for row in run.steps if row.step in at]
    held_minutes = [(at[row.step] / 60, row.bits_per_character) for row in run.held_out if row.step in at]
    return [
        chart(
            "Loss",
            "loss",
            [Series("training", train, faint=True), Series(looked_at, held_out, dots=True)],
            x_label="tokens seen",
            y_label="bits per character",
            references=references,
        ),
        chart(
            "Loss over time",
            "loss-time",
            [
                Series("training", minutes, faint=True),
                Series(looked_at, held_minutes, dots=True),
            ],
            x_label="minutes",
            y_label="bits per character",
            references=references,
            size=SMALL,
        ),
        chart(
            "Learning rate",
            "rate",
            [Series("learning rate", [(row.step, row.lr) for row in run.steps])],
            x_label="step",
            y_label="learning rate",
            y_range=(0.0, max((row.lr for row in run.steps if row.lr > 0), default=1.0)),
            size=SMALL,
        ),
        chart(
            "Gradient norm",
            "gradient",
            [Series("norm", [(row.step, row.gradient_norm) for row in run.steps], faint=True)],
            x_label="step",
            y_label="norm before clipping",
            size=SMALL,
        ),
        chart(
            "Speed",
            "speed",
            [Series("tokens/s", _points(run, "step", "tokens_per_second"), faint=True)],
            x_label="step",
            y_label="tokens per second",
            size=SMALL,
        ),
    ]


def chart(title: str, name: str, series: Sequence[Series], **options: Any) -> Chart:
    """Draw a chart both ways; ``options`` as :func:`congling.report.charts.line_chart` takes them."""
    return Chart(
        title, f"{name}.svg", line_chart(series, **options), line_chart(series, standalone=True, **options)
    )


def _samples(run: RunRecord) -> list[tuple[str, tuple[Sample, ...]]]:
    """Samples by prompt, in order of steps, each cut to a readable length."""
    prompts = dict.fromkeys(sample.prompt for sample in run.samples)
    cut = [Sample(sample.step, sample.prompt, sample.text[:LONGEST_SAMPLE]) for sample in run.samples]
    return [
        (prompt, tuple(sample for sample in cut if sample.prompt == prompt)) for prompt in list(prompts)[:8]
    ]


def _planned_findings(run: RunRecord) -> list[dict[str, Any]]:
    """Warnings the plan gave before the run, as far as they say something of the model that came of it.

    What they advise can no longer be done to it.
    """
    found = run.plan.get("findings")
    keys = {"severity", "code", "what", "why", "remedy"}
    rows = (
        [one for one in found if isinstance(one, Mapping) and one.keys() == keys]
        if isinstance(found, list)
        else []
    )
    return [
        {**one, "remedy": f"{ANEW}: {one['remedy']}"}
        for one in rows
        if one["severity"] in ("error", "warning", "note") and all(isinstance(one[key], str) for key in keys)
        and one["code"] not in _OF_THE_START
    ]  # fmt: skip


def _points(run: RunRecord, x: str, y: str) -> list[tuple[float, float]]:
    pairs = ((numeric(row.get(x)), numeric(row.get(y))) for row in run.timing)
    return [(a, b) for a, b in pairs if a is not None and b is not None]


def _median(run: RunRecord, name: str) -> float | None:
    values = sorted(value for row in run.timing if (value := numeric(row.get(name))) is not None)
    return values[len(values) // 2] if values else None
