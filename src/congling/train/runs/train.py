"""One run, from its start or resumed: directory, hooks, loop.

The same command starts a run and continues it. What a stage brings is a trainer (model, batches, objective)
and a few functions; what it gets is a directory.
"""

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from congling.core import terminal
from congling.core.artifact import Artifact
from congling.core.config import Config
from congling.core.disk import Patience
from congling.core.errors import Interrupted, UserError
from congling.core.lock import only_writer
from congling.core.output import warn
from congling.core.rundir import RunDirectory
from congling.model.checkpoint import save_model
from congling.train.backends.ddp import broadcast_text
from congling.train.loop import Hook, Trainer
from congling.train.micro_batch import begin_step_anew, recovers, shortage_on
from congling.train.runs import longer
from congling.train.runs.arithmetic import settle
from congling.train.runs.checkpoints import SaveModel, save
from congling.train.runs.guard import SkippedSteps, StopSignals
from congling.train.runs.hooks import (
    EndOfRun,
    Evaluate,
    Sample,
    Watch,
    agreeing,
    evaluating_along,
    evaluation,
    every,
    keeping,
    out_of_patience,
    patience,
    samples,
    saving,
    stopping,
    waiting,
    watching,
)
from congling.train.runs.metrics import NATS, Metrics, MetricScales
from congling.train.runs.opening import open_directory, require_eval
from congling.train.runs.process_history import recorded
from congling.train.runs.progress import ProgressLine
from congling.train.runs.recovery import RolledBack, SpikeWatch, recovering
from congling.train.runs.resuming import resume
from congling.train.runs.retention import clear_leftovers


@dataclass(frozen=True)
class RunParts:
    """What a run needs besides its trainer."""

    config: Config
    """All that determines the run; written to ``config.toml`` and compared on resume."""
    parents: Mapping[str, Artifact] = field(default_factory=dict)
    """Inputs, by name; their fingerprints are compared on resume."""
    tokenizer: Path | None = None
    """Tokenizer directory, copied into every checkpoint."""
    evaluate: Evaluate | None = None
    evaluate_first: bool = False
    """Also before the first step: what the base can do without training."""
    sample: Sample | None = None
    watch: Watch | None = None
    """Looks for early signs of collapse, at every evaluation."""
    scales: MetricScales = field(default_factory=MetricScales)
    save_model: SaveModel = save_model
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Kept in the manifest of every checkpoint, such as ``chat``."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Small texts kept beside ``config.toml``, by name, such as the plan."""
    hooks: Sequence[Hook] = ()
    """Called after each step, before it is saved."""


def train(trainer: Trainer, out: Path | str, parts: RunParts, *, must_resume: bool = False) -> RunDirectory:
    """Train to the end, from the newest whole checkpoint in ``out`` if there is one.

    Raises:
        UserError: ``out`` holds a run of another configuration or other inputs, or only damaged checkpoints;
            another process works in it; ``must_resume`` and there is nothing to resume; the loss stays
            without a finite value.
        Interrupted: a signal came; the state is saved.
    """
    run, first = RunDirectory(Path(out)), trainer.backend.rank == 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(trainer.backend.together())
        if first:
            stack.enter_context(only_writer(run.path, once=True))
            open_directory(run, parts.config, parts.files, must_resume=must_resume)
            clear_leftovers(run)
            terminal.keep_log(run.path)
            if trainer.deadline is not None:
                trainer.deadline.open(run.path)
        trainer.backend.barrier()
        rows = longer.read(run)
        start = resume(trainer, run, parts.parents, write=first, config=parts.config, rows=rows)
        equality = settle(trainer, run, start)
        if trainer.deadline is not None:
            trainer.deadline.hear(broadcast_text(trainer.deadline.told()))
        trainer.backend.barrier()
        if first and must_resume and not start:
            raise UserError(
                "there is no checkpoint to resume from", value=str(run.path), hint="leave out --resume"
            )
        require_eval(trainer.config, parts.evaluate)
        if start >= trainer.steps or out_of_patience(trainer):
            if first:
                _note_end(run, start)
            return run
        stop = stack.enter_context(StopSignals())
        run = run.patient(_patience_for_space(trainer, stop))
        with recorded(run, trainer, start, equality) if first else contextlib.nullcontext():
            if first and trainer.config.on_spike == "rollback" and not run.checkpoints():
                _save(trainer, run, parts)  # what a spike before the first checkpoint goes back to
            made = _hooks if first else _follower_hooks
            _to_the_end(trainer, made(trainer, run, parts, stop, start), run)
        if trainer.backend.any_rank(stop.requested):  # while the last checkpoint was written, or scored
            raise Interrupted(
                f"stopped after the last step, {trainer.step}: training is complete and saved in {run.path}\n"
                "  for what follows it, run the same command again"
            )
    return run


def _to_the_end(trainer: Trainer, hooks: Sequence[Hook], run: RunDirectory) -> None:
    """Train, and train again from where the run went back to, or with less at a time."""
    while True:
        try:
            return trainer.run(hooks)
        except RolledBack:
            continue
        except EndOfRun:
            return None
        except (MemoryError, RuntimeError, OSError) as error:
            if not recovers(trainer, error):
                raise
            reason = str(shortage_on(trainer.backend, error))
        begin_step_anew(trainer)
        rows, accumulation = trainer.micro_batch
        run.event(
            "smaller micro-batch", step=trainer.step, rows=rows, accumulation=accumulation, reason=reason
        )
        print(
            f"\nstep {trainer.step + 1}: out of memory ({reason}): going on with "
            f"train.per_device_train_batch_size={rows} "
            f"train.gradient_accumulation_steps={accumulation}, the same step in smaller parts",
            file=sys.stderr,
        )


def _save(trainer: Trainer, run: RunDirectory, parts: RunParts) -> None:
    save(
        trainer,
        run,
        parts.save_model,
        tokenizer=parts.tokenizer,
        parents=parts.parents,
        facts=parts.facts,
        config=parts.config,
    )


def _note_end(run: RunDirectory, step: int) -> None:
    """Say in the history that the run is over, where a process was killed before it could."""
    if run.last_turn() != "finished":
        run.event("finished", step=step)


def log_every(trainer: Trainer) -> int:
    """Steps between reads of the metrics: reading makes a GPU wait, and costs a CPU nothing.

    What is read late is seen late: a loss that leaves its course is to be noticed within five steps.
    """
    return trainer.config.logging_steps or (5 if trainer.backend.device.type == "cuda" else 1)


def _patience_for_space(trainer: Trainer, stop: StopSignals) -> Patience:
    """Waits where the disk is full; whoever asks the run to stop ends that as well."""
    advice = "then run the same command again: it goes on from the last checkpoint"
    return Patience(trainer.config.wait_for_space, say=warn, stopped=lambda: stop.requested, advice=advice)


def _hooks(trainer: Trainer, run: RunDirectory, parts: RunParts, stop: StopSignals, start: int) -> list[Hook]:
    config, interval = trainer.config, log_every(trainer)
    end = trainer.steps if trainer.deadline is None else trainer.deadline.expected
    line = ProgressLine(end, start, parts.scales.counted)
    text = parts.scales.loss_unit == NATS
    watch = SpikeWatch(run, line.note, text=text, on_spike=config.on_spike)
    metrics = Metrics(
        run, parts.scales, line, SkippedSteps(config.max_skipped), every=interval, see=watch.see
    )
    hooks: list[Hook] = [metrics, every(interval, agreeing(stop))]
    if config.on_spike != "warn":
        hooks.append(every(interval, recovering(run, parts.parents, config.on_spike, watch, metrics)))
    if trainer.backend.device.type == "cpu":
        hooks.append(waiting(metrics))
    if parts.evaluate is not None:
        look = evaluation(parts.evaluate, metrics)
        hooks.append(every(config.interval("evaluate"), look))
        if parts.evaluate_first and not start:
            look(trainer)
            trainer.best = None  # there is no checkpoint of it to hand on
    if parts.sample is not None:
        hooks.append(every(config.interval("sample"), samples(parts.sample, metrics)))
    if parts.watch is not None:
        hooks.append(every(config.interval("evaluate"), watching(parts.watch, metrics)))
    hooks += parts.hooks
    return [
        *hooks,
        *_deadline(trainer, metrics),
        saving(
            metrics,
            parts.save_model,
            stop,
            tokenizer=parts.tokenizer,
            parents=parts.parents,
            facts=parts.facts,
            config=parts.config,
            doubtful=lambda: watch.pending is not None,
        ),
        stopping(run, stop),
        *_patience(trainer, metrics.line.note),
    ]


def _deadline(trainer: Trainer, metrics: Metrics | None) -> list[Hook]:
    deadline = trainer.deadline
    if deadline is None:
        return []
    hook = every(log_every(trainer), keeping(deadline, metrics))
    if not trainer.step:
        hook(trainer)  # a rate without warm-up may fall from the first step on
    return [hook]


def _patience(trainer: Trainer, say: Callable[[str], None]) -> list[Hook]:
    """Asked at every evaluation, by all processes, or by none."""
    config = trainer.config
    return (
        [] if config.early_stopping_patience is None else [every(config.interval("evaluate"), patience(say))]
    )


def _follower_hooks(
    trainer: Trainer, run: RunDirectory, parts: RunParts, stop: StopSignals, start: int
) -> list[Hook]:
    """Processes other than the first measure with it, and stop, go back and end when it does."""
    interval, on_spike = log_every(trainer), trainer.config.on_spike
    back = [every(interval, recovering(run, parts.parents, on_spike, None, None))]
    look: list[Hook] = []
    if parts.evaluate is not None:
        along = evaluating_along(parts.evaluate)
        look = [every(trainer.config.interval("evaluate"), along)]
        if parts.evaluate_first and not start:
            along(trainer)
    return [
        every(interval, agreeing(stop)),
        *(back if on_spike != "warn" else []),
        *look,
        *_deadline(trainer, None),
        stopping(run, stop),
        *_patience(trainer, lambda text: None),
    ]
