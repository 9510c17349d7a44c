"""What a report says, as plain values: tiles, findings, charts, tables, samples. Pages only lay it out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import tomli_w

from congling.core import machine
from congling.core.units import show_bytes, show_count, show_seconds
from congling.plan.explain import explain, seconds_per_step
from congling.plan.findings import Finding
from congling.plan.record import RunRecord, Sample, mapping, numeric
from congling.report.charts import Reference, Series, line_chart

LONGEST_SAMPLE = 1500
SMALL = (480, 270)
"""Size of the charts that stand two in a row."""
_NAMES = {"uniform": "uniform", "unigram": "unigram", "bigram": "bigram", "floor": "floor"}


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
class Table:
    """Rows of text; ``numeric`` columns are set flush right."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()
    note: str = ""


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
    version: str = field(default_factory=lambda: _version("congling"))


def content(run: RunRecord) -> Content:
    """Gather everything a report of ``run`` says; what was not recorded is left out."""
    tables = (
        _loss_table(run),
        _copy_table(run),
        _rule_table(run),
        _plan_table(run),
        _model_table(run),
        _corpus_table(run),
        _choice_table(run),
    )
    planned = [Finding(**one) for one in _planned_findings(run)]
    return Content(
        title=run.path.resolve().name,
        subtitle=_subtitle(run),
        tiles=tuple(_tiles(run)),
        findings=(*explain(run), *planned),
        charts=tuple(_charts(run)),
        tables=tuple(table for table in tables if table is not None and table.rows),
        samples=tuple(_samples(run)),
        config=tomli_w.dumps(dict(run.config)) if run.config else "",
        reproduce=_reproduce(run),
    )


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
        tiles.append(Tile(f"{bits:.3f}", "held-out bits per character"))
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


def total_seconds(run: RunRecord) -> float | None:
    """Wall-clock seconds of the run: as recorded, else up to the last timing row."""
    recorded = numeric(run.results.get("seconds"))
    return recorded if recorded is not None else max(run.seconds_at().values(), default=None)


def _charts(run: RunRecord) -> list[Chart]:
    references = [
        Reference(name, run.reference_lines[key])
        for key, name in _NAMES.items()
        if key in run.reference_lines
    ]
    train = [(row.tokens, row.bits_per_character) for row in run.steps]
    held_out = [(row.tokens, row.bits_per_character) for row in run.held_out]
    at = run.seconds_at()
    minutes = [(at[row.step] / 60, row.bits_per_character) for row in run.steps if row.step in at]
    held_minutes = [(at[row.step] / 60, row.bits_per_character) for row in run.held_out if row.step in at]
    charts = [
        _chart(
            "Loss",
            "loss",
            [Series("training", train, faint=True), Series("held out", held_out, dots=True)],
            x_label="tokens seen",
            y_label="bits per character",
            references=references,
        ),
        _chart(
            "Loss over time",
            "loss-time",
            [Series("training", minutes, faint=True), Series("held out", held_minutes, dots=True)],
            x_label="minutes",
            y_label="bits per character",
            references=references,
            size=SMALL,
        ),
        _chart(
            "Learning rate",
            "rate",
            [Series("rate", [(row.step, row.rate) for row in run.steps])],
            x_label="step",
            y_label="share of the peak rate",
            y_range=(0.0, 1.0),
            size=SMALL,
        ),
        _chart(
            "Gradient norm",
            "gradient",
            [Series("norm", [(row.step, row.gradient_norm) for row in run.steps], faint=True)],
            x_label="step",
            y_label="norm before clipping",
            size=SMALL,
        ),
        _chart(
            "Speed",
            "speed",
            [Series("tokens/s", _points(run, "step", "tokens_per_second"), faint=True)],
            x_label="step",
            y_label="tokens per second",
            size=SMALL,
        ),
    ]
    return charts


def _chart(title: str, name: str, series: Sequence[Series], **options: Any) -> Chart:
    return Chart(
        title, f"{name}.svg", line_chart(series, **options), line_chart(series, standalone=True, **options)
    )


def _loss_table(run: RunRecord) -> Table:
    held_out = mapping(run.results.get("held_out"))
    rows: list[tuple[str, ...]] = [
        (f"{name} (reference)", f"{run.reference_lines[name]:.3f}", "", "", "")
        for name in _NAMES
        if name in run.reference_lines
    ]
    if run.best is not None:
        rows.append(
            (
                f"best during training, step {run.best.step:,}",
                f"{run.best.bits_per_character:.3f}",
                *(_number(run.best.values.get(name)) for name in ("bits_per_byte", "loss", "perplexity")),
            )
        )
    if held_out:
        rows.append(
            (
                "this model, every held-out token",
                *(
                    _number(held_out.get(name))
                    for name in ("bits_per_character", "bits_per_byte", "nats_per_token", "perplexity")
                ),
            )
        )
    tokens, characters = numeric(held_out.get("tokens")), numeric(held_out.get("characters"))
    note = (
        f"{tokens:,.0f} held-out tokens, {characters:,.0f} characters, never trained on."
        if tokens and characters
        else ""
    )
    return Table(
        "Held-out loss",
        ("model", "bits/character", "bits/byte", "nats/token", "perplexity"),
        tuple(rows),
        frozenset({1, 2, 3, 4}),
        note,
    )


def _rule_table(run: RunRecord) -> Table | None:
    found = mapping(run.results.get("rules"))
    names = {
        "grammar": "characters in sentences of the world",
        "facts": "statements that contradict nothing before",
        "couplets": "couplet lines whose sides match",
        "sums": "sums that are right",
    }
    values = ((text, numeric(found.get(name))) for name, text in names.items())
    rows = tuple((text, f"{value:.1%}") for text, value in values if value is not None)
    if not rows:
        return None
    note = f"Judged by rule in {found.get('texts', 0)} texts the model wrote from nothing."
    return Table("Right by the rules of the small world", ("what", "share"), rows, note=note)


def _copy_table(run: RunRecord) -> Table | None:
    found = mapping(run.results.get("copying"))
    if not found:
        return None
    rows = [
        ("generated text inside copied spans", f"{numeric(found.get('rate')) or 0:.1%}"),
        ("longest copied span", f"{found.get('longest', 0)} characters"),
    ]
    if found.get("longest_text"):
        rows.append(("that span", str(found["longest_text"])[:200]))
    return Table(
        "Copied from the training text",
        ("what", "how much"),
        tuple(rows),
        note=f"A span counts from {found.get('span', 20)} characters on that stand verbatim in the "
        "training text.",
    )


def _plan_table(run: RunRecord) -> Table | None:
    cost = mapping(run.plan.get("cost"))
    pairs = (
        ("time", numeric(cost.get("seconds")), total_seconds(run), show_seconds),
        (
            "a step",
            numeric(cost.get("seconds_per_step")),
            seconds_per_step(run),
            lambda value: f"{1000 * value:,.0f} ms",
        ),
        (
            "peak memory",
            numeric(cost.get("peak_memory")),
            numeric(run.results.get("peak_memory")),
            show_bytes,
        ),
    )
    rows = tuple(
        (name, show(planned), show(measured), f"{measured / planned - 1:+.0%}")
        for name, planned, measured, show in pairs
        if planned and measured
    )
    return Table(
        "Plan and measurement", ("what", "planned", "measured", "difference"), rows, frozenset({1, 2, 3})
    )


def _model_table(run: RunRecord) -> Table:
    parts = {
        part: count
        for part, value in mapping(mapping(run.plan.get("cost")).get("parameters")).items()
        if (count := numeric(value))
    }
    total = sum(parts.values())
    rows = [(part, f"{count:,.0f}", f"{count / total:.1%}") for part, count in parts.items()]
    return Table(
        "Model",
        ("part", "parameters", "share"),
        (*rows, ("total", f"{total:,.0f}", "")) if rows else (),
        frozenset({1, 2}),
    )


def _corpus_table(run: RunRecord) -> Table:
    corpus = mapping(run.plan.get("corpus"))
    names = {
        "characters": "training characters",
        "tokens": "training tokens",
        "documents": "training documents",
        "median_tokens": "tokens of the median document",
        "vocab_size": "vocabulary",
        "validation_tokens": "held-out tokens",
        "validation_documents": "held-out documents",
    }
    rows = [
        (label, f"{value:,.0f}")
        for key, label in names.items()
        if (value := numeric(corpus.get(key))) is not None
    ]
    characters, tokens = numeric(corpus.get("characters")), numeric(corpus.get("tokens"))
    if characters and tokens:
        rows.append(("characters a token", f"{characters / tokens:.2f}"))
    return Table("Corpus and tokenizer", ("what", "how much"), tuple(rows), frozenset({1}))


def _choice_table(run: RunRecord) -> Table:
    choices = run.plan.get("choices")
    rows = (
        [
            tuple(str(one.get(key, "")) for key in ("key", "value", "why"))
            for one in choices
            if isinstance(one, Mapping)
        ]
        if isinstance(choices, list)
        else []
    )
    return Table("Why these settings", ("choice", "value", "why"), tuple(rows))


def _samples(run: RunRecord) -> list[tuple[str, tuple[Sample, ...]]]:
    """Samples by prompt, in order of steps, each cut to a readable length."""
    prompts = dict.fromkeys(sample.prompt for sample in run.samples)
    cut = [Sample(sample.step, sample.prompt, sample.text[:LONGEST_SAMPLE]) for sample in run.samples]
    return [
        (prompt, tuple(sample for sample in cut if sample.prompt == prompt)) for prompt in list(prompts)[:8]
    ]


def _planned_findings(run: RunRecord) -> list[Mapping[str, Any]]:
    """Warnings the plan gave before the run."""
    found = run.plan.get("findings")
    keys = {"severity", "code", "what", "why", "remedy"}
    rows = (
        [one for one in found if isinstance(one, Mapping) and one.keys() == keys]
        if isinstance(found, list)
        else []
    )
    return [
        one
        for one in rows
        if one["severity"] in ("error", "warning", "note") and all(isinstance(one[key], str) for key in keys)
    ]


def _reproduce(run: RunRecord) -> str:
    lines = []
    for manifest in sorted(run.path.glob("checkpoints/step-*/MANIFEST.json"))[-1:]:
        facts = _manifest(manifest)
        command = facts.get("command")
        if isinstance(command, list):
            lines.append("command      " + " ".join(map(str, command)))
        lines += [f"{name:<12} {str(value)[:16]}" for name, value in mapping(facts.get("parents")).items()]
        lines.append(f"checkpoint   {manifest.parent.name}")
    lines += [f"{name:<12} {_version(name)}" for name in ("congling", "torch", "numpy", "tokenizers")]
    seed = mapping(run.plan.get("train")).get("seed")
    lines += [f"seed         {seed}"] if seed is not None else []
    return "\n".join([*lines, f"machine      {machine.description()}"])


def _manifest(file: Path) -> Mapping[str, Any]:
    try:
        return mapping(json.loads(file.read_bytes()[:4_000_000]))
    except (OSError, ValueError, RecursionError):
        return {}


def _points(run: RunRecord, x: str, y: str) -> list[tuple[float, float]]:
    pairs = ((numeric(row.get(x)), numeric(row.get(y))) for row in run.timing)
    return [(a, b) for a, b in pairs if a is not None and b is not None]


def _median(run: RunRecord, name: str) -> float | None:
    values = sorted(value for row in run.timing if (value := numeric(row.get(name))) is not None)
    return values[len(values) // 2] if values else None


def _number(value: object) -> str:
    found = numeric(value)
    return "" if found is None else f"{found:,.3f}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
