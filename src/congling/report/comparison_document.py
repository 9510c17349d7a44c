"""A comparison for a program: the numbers of each run as they were measured, differences, texts."""

from typing import Any

from congling.evals.paired import Measured, difference
from congling.report.comparison import Comparison, same_text
from congling.report.explain import explain
from congling.report.sides import RunSummary


def as_document(found: Comparison) -> dict[str, Any]:
    """Runs, what the others differ in from the first, what stands out, and texts by prompt and run."""
    first, rows = found.sides[0], found.rows
    return {
        "runs": [
            _run(side) | ({"rows_bits_per_character": rows.bits(side.name)} if rows else {})
            for side in found.sides
        ],
        "differences": [
            {"run": side.name, "what": what, **_fields(one)}
            for side in found.sides[1:]
            for what, one in _differences(found, first, side).items()
        ],
        "findings": {side.name: explain(side.run) for side in found.sides},
        "texts": [{"prompt": prompt, "by_run": dict(texts)} for prompt, texts in found.samples],
        "note": found.samples_note,
    }


def _run(side: RunSummary) -> dict[str, Any]:
    return {
        "name": side.name,
        "path": side.run.path,
        "made_by": side.made_by,
        "parameters": side.parameters,
        "step": side.step,
        "tokens": side.tokens,
        "seconds": side.seconds,
        "held_out": {"split": side.split, "nats_per_token": side.nats, "bits_per_character": side.bits},
        "scores": {name: _measured(one) for name, one in side.scores.items()},
    }


def _differences(found: Comparison, first: RunSummary, side: RunSummary) -> dict[str, Any]:
    differences = {}
    if side.bits is not None and first.bits is not None and same_text(first, side):
        differences["held-out bits/char"] = difference(Measured(first.bits), Measured(side.bits))
    if found.rows is not None:
        differences["bits/char of the rows"] = found.rows.difference(first.name, side.name)
    shared = [name for name in first.scores if name in side.scores]
    return differences | {name: difference(first.scores[name], side.scores[name]) for name in shared}


def _measured(one: Measured) -> dict[str, Any]:
    return {"value": one.value, "low": one.low, "high": one.high, "n": one.n}


def _fields(one: Any) -> dict[str, Any]:
    return {name: getattr(one, name) for name in ("value", "low", "high", "how")}
