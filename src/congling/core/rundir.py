"""The directory of a run, for whoever writes or reads one; no torch.

::

    runs/book/
    ├── config.toml               what was asked for; the same command must ask for the same
    ├── metrics.jsonl             a row a step, held-out rows between; the same bits in every run
    ├── timing.jsonl              tokens/s and utilisation: differs from run to run
    ├── samples.jsonl  events.jsonl  log.txt
    ├── checkpoints/
    │   ├── step-00000200/        model.safetensors, model.json, tokenizer/, state/, MANIFEST.json
    │   └── step-00000400/
    └── LATEST  BEST  BEFORE_DECAY     names of three of them
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from congling.core import artifact, pointers
from congling.core.disk import Patience, Retry, at_once, writing_to
from congling.core.json_lines import JsonLines

LOGS = ("metrics", "samples")
"""Logs that a resumed run cuts back to its checkpoint; ``timing`` and ``events`` only grow."""


TURNS = ("started", "resumed", "stopped", "failed", "finished")
"""Events that say how a process began and ended."""


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

    def last_turn(self) -> str | None:
        """The last event that says how a process began or ended; None before the first."""
        found = None
        for row in self.log("events").rows():
            found = row["event"] if row.get("event") in TURNS else found
        return found

    def checkpoint(self, step: int) -> Path:
        """Where the checkpoint after ``step`` steps is."""
        return self.path / "checkpoints" / f"step-{step:08d}"

    def checkpoints(self) -> list[Path]:
        """Finished checkpoints, newest first."""
        return pointers.finished(self.path)

    def point(self, name: str, checkpoint: Path) -> None:
        """Let ``LATEST`` or ``BEST`` name a checkpoint."""
        self.retry(lambda: artifact.write_text(self.path / name, checkpoint.name + "\n"))

    def forget(self, name: str) -> None:
        """Let a pointer name nothing any more."""
        with writing_to(self.path / name):
            (self.path / name).unlink(missing_ok=True)

    def pointed(self, name: str) -> Path | None:
        """The checkpoint that ``LATEST`` or ``BEST`` names, if it is there."""
        return pointers.named(self.path, name)
