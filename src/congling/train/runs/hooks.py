"""Hooks: plain functions of the trainer that are called between steps, combined with ``every``."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from congling.core.artifact import Artifact
from congling.core.config import Config
from congling.core.diagnosis import Diagnosis
from congling.core.errors import Interrupted, UserError
from congling.core.progress import stage
from congling.core.rundir import RunDirectory
from congling.train.config import BETTER
from congling.train.loop import Hook, Trainer
from congling.train.runs.checkpoints import SaveModel, save
from congling.train.runs.deadline import Deadline
from congling.train.runs.guard import StopSignals
from congling.train.runs.metrics import Metrics
from congling.train.runs.turns import Turn
from congling.train.waiting import Choice, threads

Evaluate = Callable[[Any], Mapping[str, float]]
"""Model to held-out numbers, asked in all processes at once. Of those that the first one is told the one that
``train.metric_for_best_model`` names decides which checkpoint is best.
"""
Sample = Callable[[Any], Sequence[Mapping[str, Any]]]
"""Model to rows with at least ``prompt`` and ``text``."""
Watch = Callable[[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]], Sequence[Diagnosis]]
"""Rows of the metrics and of the samples so far to what is wrong with them."""
UNITS = {"bits_per_character": "bits/char", "loss_per_answer": "nats/token of an answer"}
"""How held-out numbers are called on the terminal; any other by its name."""


@runtime_checkable
class DrawnByStep(Protocol):
    """A sample that draws other random numbers at each step."""

    def at(self, step: int) -> Sample:
        """The sample of a step."""
        ...


def every(steps: int, hook: Hook) -> Hook:
    """Call ``hook`` after every ``steps`` steps and after the last."""

    def sometimes(trainer: Trainer) -> None:
        if trainer.step % steps == 0 or trainer.step == trainer.steps:
            hook(trainer)

    return sometimes


class EndOfRun(Exception):
    """Raised by a hook when the run is finished before its last step; its state is saved by then."""


def evaluation(evaluate: Evaluate, metrics: Metrics) -> Hook:
    """Measure held-out numbers, log them, and remember the best of those that
    ``train.metric_for_best_model`` names.

    The hook raises :class:`congling.core.errors.UserError` where there is no such number.
    """

    def measure(trainer: Trainer) -> None:
        with (
            metrics.pause("evaluation"),
            stage("measuring held-out numbers"),
            trainer.evaluated_model() as model,
        ):
            values = dict(evaluate(model))
        metrics.validation(trainer, values)
        name = trainer.config.metric_for_best_model
        if name not in values:
            raise UserError(
                "the run measures no held-out number of this name",
                where="train.metric_for_best_model",
                value=name,
                hint="one of " + ", ".join(values),
            )
        if trainer.config.load_best_model_at_end and better(name, values[name], trainer.best):
            trainer.best = {"step": trainer.step, name: values[name]}
        units = UNITS | {"loss": metrics.scales.loss_unit}
        shown = ", ".join(f"{value:.3f} {units.get(name, name)}" for name, value in values.items())
        metrics.line.note(f"step {trainer.step}: held-out {shown}")

    return measure


def evaluating_along(evaluate: Evaluate) -> Hook:
    """What the other processes do while the first one measures: their part of the same batches."""

    def measure(trainer: Trainer) -> None:
        with trainer.evaluated_model() as model:
            evaluate(model)

    return measure


def better(name: str, value: float, best: Mapping[str, float] | None) -> bool:
    """Whether a finite ``value`` of the number ``name`` (of ``BETTER``) beats the best so far; a tie does
    not."""
    if not math.isfinite(value):
        return False
    if best is None:
        return True
    return value < best[name] if BETTER[name] == "lower" else value > best[name]


def out_of_patience(trainer: Trainer) -> bool:
    """Whether ``train.early_stopping_patience`` looks have gone by since the best one.

    Follows from the step and the best step alone, so a run that was stopped and gone on with ends where it
    would have ended, and one that has ended stays so.
    """
    if trainer.config.early_stopping_patience is None or trainer.best is None:
        return False
    interval = trainer.config.interval("evaluate")
    looks = trainer.step // interval - int(trainer.best["step"]) // interval
    return looks >= trainer.config.early_stopping_patience


def patience(say: Callable[[str], None]) -> Hook:
    """End the run when no evaluation was better for too long; stands after ``saving``, in every process.

    Only the first process looks; the others learn from it when it is over. The hook raises
    :class:`EndOfRun`.
    """

    def leave(trainer: Trainer) -> None:
        first, config = trainer.backend.rank == 0, trainer.config
        if trainer.backend.any_rank(first and out_of_patience(trainer)):
            if first and trainer.best is not None:
                say(
                    f"ends after step {trainer.step} of {trainer.steps}: held-out "
                    f"{config.metric_for_best_model} "
                    f"was best at step {trainer.best['step']:.0f}, and not since"
                )
            raise EndOfRun

    return leave


def watching(watch: Watch, metrics: Metrics) -> Hook:
    """Warn, once for each kind of trouble, of what shows in the logs: a line, and an event.

    What was said before an interruption is not said again.
    """
    run = metrics.run
    known = {str(row.get("code")) for row in run.log("events").rows() if row.get("event") == "warning"}

    def warn(trainer: Trainer) -> None:
        with metrics.pause("watching"):
            found = watch(list(run.log("metrics").rows()), list(run.log("samples").rows()))
        for finding in found:
            if finding.code in known:
                continue
            known.add(finding.code)
            run.event("warning", step=trainer.step, code=finding.code, what=finding.what)
            metrics.line.note(
                f"step {trainer.step}: warning: {finding.what} ({finding.code}): {finding.remedy}"
            )

    return warn


def samples(sample: Sample, metrics: Metrics) -> Hook:
    """Let the model write, for the log and for whoever watches."""

    def write(trainer: Trainer) -> None:
        with metrics.pause("sampling"), stage("writing samples"), trainer.evaluated_model() as model:
            drawn = sample.at(trainer.step) if isinstance(sample, DrawnByStep) else sample
            rows = [{"step": trainer.step, **row} for row in drawn(model)]
        metrics.run.log("samples").append(*rows)
        for row in rows[:1]:
            note = f" (note: {row['note']})" if "note" in row else ""
            metrics.line.note(f"step {trainer.step}: {row['prompt']}{row['text']}{note}")

    return write


def keeping(deadline: Deadline, metrics: Metrics | None) -> Hook:
    """Let the rate fall and the run end when the clock says so; stands before ``saving``, in every process.

    The first process (with ``metrics``) decides, and the others learn of it.
    """

    def look(trainer: Trainer) -> None:
        turn = None if metrics is None else deadline.look(trainer.step, metrics.pauses())
        steps = int(trainer.backend.all_reduce_sum(0.0 if turn is None else float(turn.steps)))
        if steps:
            again = deadline.began is not None
            deadline.make(turn or Turn(trainer.step, steps))
            if metrics is not None:
                what = "its fall now ends with" if again else "the rate falls from here on, until"
                metrics.line.note(
                    f"step {trainer.step}: {what} step {steps}, as the time that is left allows"
                )
                metrics.run.event("turn", step=trainer.step, steps=steps)
        if metrics is not None:
            metrics.line.steps = deadline.expected

    return look


def waiting(metrics: Metrics) -> Hook:
    """Let threads wait for one another in the manner that makes steps faster now (on a CPU)."""

    def say(text: str) -> None:
        metrics.line.note(text)
        metrics.run.event("waiting", manner=choice.threads.manner, what=text)

    choice = Choice(threads(), say)
    return lambda trainer: choice.take(trainer.step_seconds)


def saving(
    metrics: Metrics,
    save_model: SaveModel,
    stop: StopSignals,
    *,
    tokenizer: Path | None,
    parents: Mapping[str, Artifact],
    facts: Mapping[str, Any] | None = None,
    config: Config | None = None,
    doubtful: Callable[[], bool] = lambda: False,
) -> Hook:
    """Write a checkpoint when one is due, when the model is the best so far, before the rate falls (a longer
    run begins there), and before the run stops or ends.

    None of weights that are ``doubtful`` once all rows are read: the run is about to go back or to end.
    """

    def write(trainer: Trainer) -> None:
        due = trainer.step % trainer.config.interval("save") == 0 or trainer.step == trainer.steps
        due = due or trainer.step == trainer.decay_start
        best = trainer.best is not None and trainer.best["step"] == trainer.step
        if due or best or stop.agreed or out_of_patience(trainer):
            with metrics.pause("saving"), stage("saving a checkpoint"):
                if doubtful():
                    return
                save(
                    trainer,
                    metrics.run,
                    save_model,
                    tokenizer=tokenizer,
                    parents=parents,
                    facts=facts,
                    config=config,
                )

    return write


def agreeing(stop: StopSignals) -> Hook:
    """Let all processes learn that one of them was asked to stop, so that they leave after the same step."""

    def ask(trainer: Trainer) -> None:
        stop.agreed = trainer.backend.any_rank(stop.requested)

    return ask


def stopping(run: RunDirectory, stop: StopSignals) -> Hook:
    """End the run after a step in which a signal came; stands after ``saving``.

    The hook raises :class:`congling.core.errors.Interrupted`.
    """

    def leave(trainer: Trainer) -> None:
        if stop.agreed:
            raise Interrupted(
                f"stopped after step {trainer.step} of {trainer.steps}, saved in {run.path}\n"
                "  to resume, run the same command again"
            )

    return leave
