"""The directory of a run, for whoever writes or reads one; no torch.

::

    runs/book/
    ├── config.toml               what was asked for; the same command must ask for the same
    ├── metrics.jsonl             a row a step, held-out rows between; the same bits in every run
    ├── timing.jsonl              tokens/s and utilisation: differs from run to run
    ├── samples.jsonl  events.jsonl
    ├── checkpoints/
    │   ├── step-00000200/        model.safetensors, model.json, tokenizer/, state/, MANIFEST.json
    │   └── step-00000400/
    └── LATEST  BEST              names of two of them
"""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from congling.core import artifact, pointers
from congling.core.config import Config
from congling.core.disk import Patience, Retry, at_once
from congling.core.errors import UserError
from congling.core.json_lines import JsonLines
from congling.core.text import valid

LOGS = ("metrics", "samples")
"""Logs that a resumed run cuts back to its checkpoint; ``timing`` and ``events`` only grow."""


@dataclass(frozen=True)
class RunDirectory:
    """Names of things in a run's directory."""

    path: Path
    retry: Retry = field(default=at_once, repr=False, compare=False)
    """How logs, pointers and checkpoints are written: at once, or with patience where the disk is full."""

    def patient(self, patience: Patience) -> "RunDirectory":
        """The same directory, written to with patience."""
        return replace(self, retry=patience)

    @property
    def config(self) -> Path:
        """``config.toml``."""
        return self.path / "config.toml"

    def log(self, name: str) -> JsonLines:
        """``metrics``, ``timing``, ``samples`` or ``events``."""
        return JsonLines(self.path / f"{name}.jsonl", self.retry)

    def event(self, event: str, **values: Any) -> None:
        """Add to the history of the run."""
        self.log("events").append(
            {"time": datetime.now(UTC).isoformat(timespec="seconds"), "event": event, **values}
        )

    def checkpoint(self, step: int) -> Path:
        """Where the checkpoint after ``step`` steps is."""
        return self.path / "checkpoints" / f"step-{step:08d}"

    def checkpoints(self) -> list[Path]:
        """Finished checkpoints, newest first."""
        return pointers.finished(self.path)

    def point(self, name: str, checkpoint: Path) -> None:
        """Let ``LATEST`` or ``BEST`` name a checkpoint."""
        self.retry(lambda: artifact.write_text(self.path / name, checkpoint.name + "\n"))

    def pointed(self, name: str) -> Path | None:
        """The checkpoint that ``LATEST`` or ``BEST`` names, if it is there."""
        return pointers.named(self.path, name)


def require_same(before: Config, now: Config, *, where: Path, harmless: Collection[str] = ()) -> None:
    """Compare the settings a directory was made with and those asked for now.

    Raises:
        UserError: keys other than ``harmless`` ones differ; the message names them.
    """
    differing = [
        key
        for key in _differences(before.model_dump(mode="json"), now.model_dump(mode="json"))
        if key.rpartition(".")[2] not in harmless
    ]
    if differing:
        raise UserError(
            "this directory was made with other settings",
            where=where,
            value=", ".join(differing),
            hint="go on with the old values, or choose another --out",
        )


def _written(value: Any) -> Any:
    """A value as a TOML file holds it: U+FFFD for each byte of a name that is not in UTF-8 (core/text.py)."""
    return (
        [_written(one) for one in value]
        if isinstance(value, list)
        else (valid(value) if isinstance(value, str) else value)
    )


def _differences(before: Any, after: Any, path: str = "") -> list[str]:
    """Dotted keys whose values differ."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return [] if before in (after, _written(after)) else [path]
    keys = [*before, *(key for key in after if key not in before)]
    return [
        name
        for key in keys
        for name in _differences(before.get(key), after.get(key), f"{path}.{key}" if path else str(key))
    ]
