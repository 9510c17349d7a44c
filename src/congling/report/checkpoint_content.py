"""The report of a model made without training: pruned, extended, or brought here from another program."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from congling.core import artifact
from congling.core.artifact import Artifact
from congling.core.config import upgraded
from congling.core.diagnosis import Diagnosis
from congling.core.units import show_bytes, show_count
from congling.model.config import ModelConfig
from congling.model.counts import parameters
from congling.report import extension_content
from congling.report.charts import Series
from congling.report.content import Content
from congling.report.drawing import SMALL, Chart, chart
from congling.report.next_steps import Step, steps_of_checkpoint, steps_of_extended
from congling.report.pages import write_content
from congling.report.record import mapping, numeric, results_of
from congling.report.recorded_scores import score_tables
from congling.report.run_tables import Table
from congling.report.score_charts import score_charts
from congling.report.tiles import Tile
from congling.report.weights import MODEL, description, limit

PRUNING = "pruning.json"
_AXES = {
    "num_hidden_layers": "blocks",
    "hidden_size": "channels of the residual stream",
    "num_attention_heads": "query heads",
    "intermediate_size": "hidden channels of an MLP",
    "num_experts": "routed experts",
    "parameters": "parameters",
}


def write(checkpoint: Path | str, out: Path | str) -> Path:
    """Write the report of a checkpoint; see :func:`congling.report.pages.write_content`.

    Raises:
        UserError: there is no checkpoint, or the folder cannot be written.
    """
    return write_content(content_of_checkpoint(artifact.opened(checkpoint, "checkpoint")), out)


def content_of_checkpoint(found: Artifact) -> Content:
    """Gather what a checkpoint says of its making."""
    facts, table = found.facts, description(found.path / MODEL)
    pruned, source = mapping(facts.get("pruned")), mapping(facts.get("source"))
    results, extension = results_of(found.path), mapping(facts.get("extended"))
    try:
        model = ModelConfig.model_validate(upgraded(ModelConfig, table))
    except (TypeError, ValueError):
        model = None
    return Content(
        title=found.path.resolve().name,
        subtitle=", ".join(_parts(model, pruned, source, extension)),
        tiles=tuple(_tiles(model, pruned)),
        findings=(*_findings(facts, pruned), *extension_content.diagnoses(extension)),
        charts=(*_charts(found.path), *score_charts(results)),
        tables=tuple(
            one
            for one in (
                _sizes(pruned),
                *extension_content.tables(extension),
                *score_tables(results),
                _parity(found.path),
                _origin(source),
            )
            if one.rows
        ),
        samples=(),
        steps=_steps(found, model, pruned, extension),
        config=json.dumps(table, ensure_ascii=False, indent=1) if table else "",
        reproduce="\n".join(f"{name:<12} {value[:16]}" for name, value in found.parents.items()),
        note=limit(model),
    )


def _steps(
    found: Artifact, model: ModelConfig | None, pruned: Mapping[str, Any], extension: Mapping[str, Any]
) -> tuple[Step, ...]:
    chat = found.facts.get("chat") is True
    if extension and model is not None:
        measured = mapping(extension.get("measured"))
        return steps_of_extended(found.path, model, chat=chat, shards=_text(measured.get("shards")))
    shards, base = _text(pruned.get("shards")), _text(pruned.get("model"))
    return steps_of_checkpoint(found.path, chat=chat, shards=shards, base=base)


def _parts(
    model: ModelConfig | None,
    pruned: Mapping[str, Any],
    source: Mapping[str, Any],
    extension: Mapping[str, Any],
) -> list[str]:
    made = f"imported from {source.get('format', 'elsewhere')}"
    if pruned:
        made = f"pruned by {pruned.get('score')}"
    if extension:
        made = extension_content.title(extension)
    if model is None:
        return [made]
    size = f"{show_count(parameters(model))} parameters"
    return [
        made,
        f"{model.num_hidden_layers} layers × {model.hidden_size}",
        size,
        f"context {model.max_position_embeddings}",
    ]


def _tiles(model: ModelConfig | None, pruned: Mapping[str, Any]) -> list[Tile]:
    found = []
    if model is not None:
        before = numeric(mapping(pruned.get("from")).get("parameters"))
        of = f"parameters, {show_count(before)} before" if before else "parameters"
        found.append(Tile(show_count(parameters(model)), of))
    losses = _losses(pruned)
    if losses is not None:
        found.append(Tile(f"{losses[1]:.3f}", f"held-out loss in nats/token, {losses[0]:.3f} before"))
    if model is not None:
        found.append(Tile(f"{model.max_position_embeddings:,}", "tokens that the model reads at once"))
    return found


def _losses(pruned: Mapping[str, Any]) -> tuple[float, float] | None:
    found = pruned.get("losses")
    if not isinstance(found, list) or len(found) != 2:
        return None
    before, after = map(numeric, found)
    return None if before is None or after is None else (before, after)


def _findings(facts: Mapping[str, Any], pruned: Mapping[str, Any]) -> list[Diagnosis]:
    found = []
    losses = _losses(pruned)
    if losses is not None and losses[1] > losses[0]:
        found.append(
            Diagnosis(
                "note",
                "to-recover",
                f"the loss rose from {losses[0]:.3f} to {losses[1]:.3f} nats/token",
                "what was left out did some of the work, and what remains has not learnt to do it",
                "train it further: the first commands below",
            )
        )
    for note in facts.get("notes") or ():
        found.append(
            Diagnosis("note", "changed-on-the-way", str(note), "the other program does it differently", "")
        )
    for obstacle in pruned.get("obstacles") or ():
        found.append(
            Diagnosis("warning", "not-exportable", str(obstacle), "its sizes do not allow it any more", "")
        )
    return found


def _charts(folder: Path) -> list[Chart]:
    """Scores of the blocks, where they were measured."""
    layers = mapping(description(folder / PRUNING).get("layers"))
    scores, kept = layers.get("scores"), layers.get("kept")
    if not isinstance(scores, list) or not isinstance(kept, list):
        return []
    known = [(float(place), value) for place, one in enumerate(scores) if (value := numeric(one)) is not None]
    series = [
        Series("every block", known),
        Series("kept", [one for one in known if int(one[0]) in kept], dots=True),
    ]
    return (
        [chart("How much each block does", "blocks", series, x_label="block", y_label="score", size=SMALL)]
        if known
        else []
    )


def _sizes(pruned: Mapping[str, Any]) -> Table:
    before, after = mapping(pruned.get("from")), mapping(pruned.get("to"))
    rows = [
        (
            _AXES.get(axis, axis),
            f"{one:,.0f}",
            f"{two:,.0f}",
            f"{two / one - 1:+.0%}" if two != one else "the same",
        )
        for axis in before
        if (one := numeric(before[axis])) and (two := numeric(after.get(axis))) is not None
    ]
    return Table("Before and after", ("what", "before", "after", "change"), tuple(rows), frozenset({1, 2, 3}))


def _parity(folder: Path) -> Table:
    """How the model computes beside the program it came from, where that was compared."""
    found = description(folder.with_name(folder.name + ".parity.json"))
    rows = [
        (name.replace("_", " "), _plain(value)) for name, value in found.items() if numeric(value) is not None
    ]
    note = f"Compared in {found.get('engine')}." if isinstance(found.get("engine"), str) else ""
    return Table("Beside the other program", ("what", "value"), tuple(rows), frozenset({1}), note)


def _origin(source: Mapping[str, Any]) -> Table:
    rows = [(str(name), str(value)) for name, value in source.items() if isinstance(value, str)]
    size = numeric(source.get("bytes"))
    rows += [("size", show_bytes(size))] if size else []
    return Table("Where it comes from", ("what", "value"), tuple(rows))


def _plain(value: Any) -> str:
    number = numeric(value) or 0.0
    return f"{number:,.0f}" if number == int(number) else f"{number:.4g}"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
