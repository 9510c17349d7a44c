"""What the report of a model with an extended context says of the extension; facts may be from anywhere."""

from collections.abc import Iterator, Mapping
from typing import Any

from congling.core.diagnosis import Diagnosis
from congling.report.record import mapping, numeric
from congling.report.run_tables import Table


def title(extension: Mapping[str, Any]) -> str:
    """How it was extended, for the line below the name."""
    before, after, method = (extension.get(key) for key in ("from", "to", "method"))
    by = "unchanged" if method == "none" else f"by {method}"
    return f"context extended {by} from {_count(before)} to {_count(after)} tokens"


def tables(extension: Mapping[str, Any]) -> Iterator[Table]:
    """The losses of each way to stretch positions, where they were measured."""
    measured = mapping(extension.get("measured"))
    lines = measured.get("lines")
    if not isinstance(lines, list) or not lines:
        return
    head = (
        "positions",
        f"nats behind {_count(extension.get('to'))}",
        "less the sliding window",
        "95 % interval",
        f"nats behind {_count(extension.get('from'))}",
    )
    rows = tuple(_row(mapping(line)) for line in lines[:100])
    note = (
        f"{_count(measured.get('windows'))} windows of {measured.get('text')}, the same tokens in each row."
    )
    yield Table("Without training", head, rows, frozenset({1, 2, 3, 4}), note)


def diagnoses(extension: Mapping[str, Any]) -> Iterator[Diagnosis]:
    """What the measurement came to."""
    measured = mapping(extension.get("measured"))
    verdict = measured.get("verdict")
    if isinstance(verdict, str) and verdict:
        why = "positions are stretched, and no weight has been trained to them"
        cure = "train it at the new length: the commands below"
        yield Diagnosis("note", "extended-untrained", verdict, why, cure)


def _row(line: Mapping[str, Any]) -> tuple[str, ...]:
    over = mapping(line.get("over_sliding"))
    between = ""
    if numeric(over.get("low")) is not None and numeric(over.get("high")) is not None:
        between = f"{_nats(over.get('low'), '+')} … {_nats(over.get('high'), '+')}"
    gap = "" if line.get("name") == "sliding" else _nats(over.get("value"), "+")
    shown = "" if line.get("name") == "sliding" else between
    return str(line.get("name")), _nats(line.get("nats")), gap, shown, _nats(line.get("within"))


def _nats(value: object, sign: str = "") -> str:
    number = numeric(value)
    return "" if number is None else f"{number:{sign}.3f}"


def _count(value: object) -> str:
    number = numeric(value)
    return "?" if number is None else f"{number:,.0f}"
