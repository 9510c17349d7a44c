"""Rows of ``metrics.jsonl`` and ``timing.jsonl``; numbers are read from the device only now and then."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from congling.core import machine
from congling.core.rundir import RunDirectory
from congling.train.loop import Trainer
from congling.train.runs.guard import SkippedSteps
from congling.train.runs.progress import ProgressLine

NATS = "nats/token"
MEMORY_INTERVAL = 10.0
"""Seconds between looks at the memory of the process."""


@dataclass(frozen=True)
class MetricScales:
    """What turns raw measurements into comparable ones; each is left out where it is not known."""

    tokens_per_character: float | None = None
    """Of the training text: turns nats per token into bits per character."""
    flops_per_token: float | None = None
    """Of training on one token (:func:`congling.model.counts.flops_per_token`)."""
    matmul_peak: float | None = None
    """Floating-point operations a second this machine reaches in matrix multiplications."""
    loss_unit: str = NATS
    """What the loss is measured in; another word where it is no cross-entropy."""
    counted: str = "tokens"
    """What the loop counts: tokens that are learnt, or pairs that are compared."""

    def bits_per_character(self, nats_per_token: float) -> float | None:
        """Same loss, independent of the tokenizer."""
        scale = self.tokens_per_character
        return None if scale is None else nats_per_token * scale / math.log(2)

    def utilisation(self, tokens_per_second: float) -> float | None:
        """Share of the matmul peak that the whole step reaches (MFU).

        None where it is not known, or more than all: the peak was then measured while others were computing.
        """
        if self.flops_per_token is None or self.matmul_peak is None:
            return None
        share = tokens_per_second * self.flops_per_token / self.matmul_peak
        return share if share <= 1 else None


class Metrics:
    """The hook that logs every step; a waiting row stays on the device until ``flush``."""

    def __init__(
        self,
        run: RunDirectory,
        scales: MetricScales,
        line: ProgressLine,
        skipped: SkippedSteps,
        *,
        every: int,
        see: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        """Set up; ``see`` is shown every row once it is written."""
        self.see = see
        self.run, self.scales, self.line, self.skipped, self.every = run, scales, line, skipped, every
        self._waiting: list[dict[str, Any]] = []
        self._mark, self._tokens = time.monotonic(), None
        self._pauses: dict[str, float] = {}
        self._weighed = float("-inf")

    def __call__(self, trainer: Trainer) -> None:
        """Take the row of the step just done."""
        self._waiting.append(trainer.step_metrics)
        if len(self._waiting) >= self.every or trainer.step == trainer.steps:
            self.flush()

    def flush(self) -> None:
        """Write the waiting rows.

        Raises:
            UserError: too many steps in a row were skipped.
        """
        if not self._waiting:
            return
        rows, self._waiting = _fetched(self._waiting), []
        written = [self._row(row) for row in rows]
        self.run.log("metrics").append(*written)
        self._time(written)
        for row in written:
            if row.get("skipped"):
                self.run.event("skipped step", step=row["step"], reason="the gradient is not finite")
            self.skipped.count(row["step"], bool(row.get("skipped")))
            if self.see is not None:
                self.see(row)

    def start_over(self) -> None:
        """Forget what waits and how fast it was: the trainer stands at an earlier step again."""
        self._waiting = []
        self._mark, self._tokens = time.monotonic(), None

    @contextlib.contextmanager
    def pause(self, kind: str = "other") -> Iterator[None]:
        """Write what waits, and leave the time spent in the block out of the speed."""
        self.flush()
        start = time.monotonic()
        yield
        took = time.monotonic() - start
        self._mark += took
        self._pauses[kind] = self._pauses.get(kind, 0.0) + took

    def pauses(self) -> dict[str, float]:
        """Seconds spent in pauses, by their kind, since this was asked last."""
        found, self._pauses = self._pauses, {}
        return found

    def validation(self, trainer: Trainer, values: Mapping[str, float]) -> None:
        """Write a held-out row: ``validation_loss`` and so on."""
        place = {"step": trainer.step, "tokens": int(trainer.tokens)}
        self.run.log("metrics").append(
            place | {f"validation_{name}": value for name, value in _json_numbers(values).items()}
        )

    def _row(self, row: dict[str, Any]) -> dict[str, Any]:
        """Numbers as they are logged."""
        numbers = _json_numbers(row)
        numbers |= {"step": int(row["step"]), "tokens": int(row["tokens"])}
        if "rows_hash" in row:
            numbers["rows_hash"] = f"{int(row['rows_hash']):012x}"
        if not numbers.pop("skipped"):
            loss = numbers.get("loss")
            numbers["bits_per_character"] = None if loss is None else self.scales.bits_per_character(loss)
            return {name: value for name, value in numbers.items() if value is not None}
        return numbers | {"skipped": True}

    def _time(self, rows: list[dict[str, Any]]) -> None:
        """Speed since the last rows, for the log and the line."""
        now, last = time.monotonic(), rows[-1]
        tokens = last["tokens"] - (self._tokens if self._tokens is not None else 0)
        if self._tokens is not None:
            speed = tokens / max(1e-9, now - self._mark)
            share = self.scales.utilisation(speed)
            timing = {"step": last["step"], "seconds": now - self.line.started, "tokens_per_second": speed}
            if now >= self._weighed + MEMORY_INTERVAL:
                self._weighed, timing["memory"] = now, machine.memory_used()
            self.run.log("timing").append(timing | ({} if share is None else {"utilisation": share}))
            self.line.show(last["step"], _shown_loss(last, self.scales.loss_unit), speed, share)
        self._mark, self._tokens = now, last["tokens"]


def _json_numbers(values: Mapping[str, float]) -> dict[str, Any]:
    """NaN and infinity are no JSON and become null."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _shown_loss(row: dict[str, Any], unit: str) -> str:
    if row.get("reward") is not None:
        return f"reward {row['reward']:.3f}"
    if row.get("bits_per_character") is not None:
        return f"{row['bits_per_character']:.3f} bits/char"
    return "skipped" if row.get("loss") is None else f"{row['loss']:.4f} {unit}"


def _fetched(rows: list[dict[str, Any]]) -> list[dict[str, float]]:
    """All values of all rows as numbers, in one transfer from the device."""
    tensors = [
        value.detach().double().reshape(())
        for row in rows
        for value in row.values()
        if isinstance(value, Tensor)
    ]
    numbers = iter(torch.stack(tensors).tolist() if tensors else [])
    return [
        {name: next(numbers) if isinstance(value, Tensor) else float(value) for name, value in row.items()}
        for row in rows
    ]
