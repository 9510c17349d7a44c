"""What happens between steps: plain functions of the trainer, combined with ``every``."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from congling.core.artifact import Artifact
from congling.core.errors import Interrupted
from congling.train.guard import StopSignals
from congling.train.loop import Hook, Trainer
from congling.train.metrics import Metrics
from congling.train.rundir import RunDirectory
from congling.train.state import SaveModel, save

Evaluate = Callable[[Any], Mapping[str, float]]
"""Model to held-out numbers; ``loss`` (lower is better) decides which checkpoint is best."""
Sample = Callable[[Any], Sequence[Mapping[str, Any]]]
"""Model to rows with at least ``prompt`` and ``text``."""
UNITS = {"loss": "nats/token", "bits_per_character": "bits/char"}
"""How held-out numbers are called on the terminal; any other by its name."""


def every(steps: int, hook: Hook) -> Hook:
    """Call ``hook`` after every ``steps`` steps and after the last."""

    def sometimes(trainer: Trainer) -> None:
        if trainer.step % steps == 0 or trainer.step == trainer.config.steps:
            hook(trainer)

    return sometimes


def evaluation(evaluate: Evaluate, metrics: Metrics) -> Hook:
    """Measure held-out numbers, log them, and remember the best loss."""

    def measure(trainer: Trainer) -> None:
        with metrics.pause(), trainer.evaluated_model() as model:
            values = dict(evaluate(model))
        metrics.validation(trainer, values)
        better = trainer.best is None or values["loss"] < trainer.best["loss"]
        if better and math.isfinite(values["loss"]) and trainer.config.hand_on == "best":
            trainer.best = {"step": trainer.step, "loss": values["loss"]}
        shown = ", ".join(f"{value:.3f} {UNITS.get(name, name)}" for name, value in values.items())
        metrics.line.note(f"step {trainer.step}: held-out {shown}")

    return measure


def samples(sample: Sample, metrics: Metrics) -> Hook:
    """Let the model write, for the log and for whoever watches."""

    def write(trainer: Trainer) -> None:
        with metrics.pause(), trainer.evaluated_model() as model:
            rows = [{"step": trainer.step, **row} for row in sample(model)]
        metrics.run.log("samples").append(*rows)
        for row in rows[:1]:
            metrics.line.note(f"step {trainer.step}: {row['prompt']}{row['text']}")

    return write


def saving(
    metrics: Metrics,
    save_model: SaveModel,
    stop: StopSignals,
    *,
    tokenizer: Path | None,
    parents: Mapping[str, Artifact],
    facts: Mapping[str, Any] | None = None,
) -> Hook:
    """Write a checkpoint when one is due, when the model is the best so far, and before stopping."""

    def write(trainer: Trainer) -> None:
        due = trainer.step % trainer.config.interval("save") == 0 or trainer.step == trainer.config.steps
        best = trainer.best is not None and trainer.best["step"] == trainer.step
        if due or best or stop.agreed:
            with metrics.pause():
                save(trainer, metrics.run, save_model, tokenizer=tokenizer, parents=parents, facts=facts)

    return write


def agreeing(stop: StopSignals) -> Hook:
    """Let all processes learn that one of them was asked to stop, so that they leave after the same step."""

    def ask(trainer: Trainer) -> None:
        stop.agreed = trainer.backend.agree(stop.requested)

    return ask


def stopping(run: RunDirectory, stop: StopSignals) -> Hook:
    """End the run after a step in which a signal came; stands after ``saving``.

    The hook raises :class:`congling.core.errors.Interrupted`.
    """

    def leave(trainer: Trainer) -> None:
        if stop.agreed:
            raise Interrupted(
                f"stopped after step {trainer.step} of {trainer.config.steps}, saved in {run.path}\n"
                "  to go on, run the same command again"
            )

    return leave
