"""Settings as a person reads them: one dotted name a line, and which of them differ between runs."""

from collections.abc import Mapping, Sequence
from typing import Any

from congling.report.record import RunRecord, mapping
from congling.report.weights import model_of

LONGEST = 80
"""Characters of a value that are shown."""
_ASKED = ("budget", "data", "tokenizer", "samples")
"""What a recipe asks for besides model and training, of which the configuration holds all that was chosen."""


def flattened(table: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Values by dotted name.

    >>> flattened({"train": {"max_steps": 8, "optimizer": {"kind": "adamw"}}})
    {'train.max_steps': 8, 'train.optimizer.kind': 'adamw'}
    """
    found: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{before}.{key}" if before else str(key)
        found |= flattened(value, name) if isinstance(value, Mapping) else {name: value}
    return found


def shown(value: Any) -> str:
    """A value in one line; what is long is cut."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = ", ".join(map(shown, value)) if isinstance(value, list | tuple) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def settings_of(run: RunRecord) -> dict[str, Any]:
    """All that made a run what it is: what was asked for and what was decided."""
    asked = {name: run.recipe[name] for name in _ASKED if name in run.recipe}
    found = {"method": run.method.verb} | flattened(asked) | flattened(run.config)
    model = model_of(run)
    if model is not None and not isinstance(run.config.get("model"), Mapping):
        found |= flattened(model.model_dump(mode="json", exclude_none=True), "model")
    base = mapping(run.plan.get("base")).get("path")
    return found | ({"base": base} if isinstance(base, str) else {})


def differing(runs: Sequence[RunRecord]) -> list[tuple[str, ...]]:
    """For each setting that is not the same in all runs its name and the value in each; – where none."""
    tables = [settings_of(run) for run in runs]
    names = dict.fromkeys(name for table in tables for name in table)
    rows = [(name, *(shown(table[name]) if name in table else "–" for table in tables)) for name in names]
    return [row for row in rows if len(set(row[1:])) > 1]
