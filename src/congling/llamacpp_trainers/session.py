"""One run in the former trainers' order of events, on the one training loop.

::

    between iterations   log line · save when due · next rows      (the loop's ``batches``)
    forward, backward                                              (the loop)
    stop tests                                                     (``before_update``)
    update at the rate that the log line showed                    (the loop)

A run ends with one more pass, whose loss the stop tests see and whose gradient is thrown away.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from congling.core.disk import Patience
from congling.core.errors import Interrupted, UserError
from congling.data.batches import Batch
from congling.interop.llamacpp_checkpoint import Moments, Progress, Slot
from congling.llamacpp_trainers.adam import AdamSettings, ClassicAdam
from congling.llamacpp_trainers.console import IterationLog, Print, duration, say
from congling.llamacpp_trainers.options import TrainerOptions
from congling.llamacpp_trainers.rows import RowSource
from congling.llamacpp_trainers.schedule import FittedSchedule, Schedule
from congling.llamacpp_trainers.stops import Stop, StopTests
from congling.model.transformer import Transformer
from congling.train.backends.single import Single
from congling.train.config import TrainConfig
from congling.train.loop import Trainer
from congling.train.objectives.next_token import next_token
from congling.train.runs.guard import StopSignals

MOST_SKIPPED = 10
"""Passes in a row without a finite gradient after which a run gives up."""


@dataclass(frozen=True)
class Job:
    """What is trained, and how it is saved."""

    model: Transformer
    slots: Sequence[Slot]
    parameters: dict[str, nn.Parameter]
    """By the keys of ``slots``."""
    save: Callable[["Snapshot"], None]
    moments: Moments | None = None
    """Adam's, of the checkpoint gone on from."""
    done: Progress = field(default_factory=Progress)
    """That checkpoint's counters."""
    past: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    """That checkpoint's losses for the delta test."""


@dataclass(frozen=True)
class Snapshot:
    """What a save writes besides the weights, which the model holds."""

    progress: Progress
    moments: Moments
    past: np.ndarray


class Session:
    """Everything that changes during a run of one of the former trainers."""

    def __init__(
        self,
        job: Job,
        source: RowSource,
        options: TrainerOptions,
        *,
        samples_hash: int = 0,
        held_out: Sequence[Batch] = (),
        out: Print = say,
    ) -> None:
        self.job, self.source, self.options, self.out = job, source, options, out
        self.samples_hash, self.held_out = samples_hash, held_out
        first = job.done.iterations
        self.last = first + options.adam_iter
        self.log = IterationLog(self.last, out)
        self.schedule = _schedule(options, first, self.last)
        config = _config(options, source.filling.context, self.last)
        backend = Single(config)
        job.model.to(backend.device).train()  # before Adam's moments, which lie beside the weights
        job.model.checkpoint_blocks(options.use_checkpointing)
        self.adam, self.tests = _adam(job, options), _tests(job, options)
        self.trainer = Trainer(
            job.model,
            self.batches,
            next_token,
            config,
            backend,
            optimizers=[self.adam],
            lr_factor=self.schedule.factor,
            before_update=self.before_update,
            prefetch=0,
        )
        self.trainer.step = first
        self.tokens, self.saved_at = job.done.tokens, first
        self.first_epoch, self.last_epoch_at = source.epochs, -1
        self.loss: float | None = None
        self.skipped = 0
        self.signals = StopSignals()

    def run(self) -> None:
        """Train until the iterations are done, a test stops the run, or Ctrl-C, after saving.

        Raises:
            Interrupted: a signal came.
            UserError: the loss stays without a finite value.
        """
        begun = time.monotonic()
        try:
            with self.signals:
                self.trainer.run()
        except Stop as stop:
            if str(stop):
                self.out(f"main: stopped: {stop}")
        if self.trainer.step > self.saved_at:
            self.save()
        self.out(f"main: total training time: {duration(1000 * (time.monotonic() - begun))}")

    def batches(self, step: int, rank: int, world: int) -> list[Batch]:
        """All that happens between two iterations, then the rows of the next."""
        self.log.passed()
        self._count_skipped()
        every = self.options.save_every
        if self.signals.requested or (every > 0 and step - self.saved_at >= every):
            self.save()
        if self.signals.requested:
            raise Interrupted(f"stopped after iteration {step}; the checkpoint is saved")
        self.log.resumed()
        count = len(self.source.samples)
        sample = f"{min(1 + self.source.place, count)}/{count}"
        self.log.line(step, sample, self.schedule.factor(step), self.loss)
        passes = [self.source.next_batch(self._reshuffled) for _ in range(max(1, self.options.grad_acc))]
        self._count_epochs(step)
        return passes

    def before_update(self, means: dict[str, Tensor]) -> None:
        """Look at the loss of the pass that is over.

        Raises:
            Stop: the run ends without the update.
        """
        self.loss = float(means["loss"])
        self.tests.check(self.trainer.step, self.loss)
        if self.trainer.step >= self.last:
            raise Stop

    def save(self) -> None:
        """Write all files of this iteration; where the disk is full, wait for space.

        Raises:
            Refused: they cannot be written.
        """
        step, options = self.trainer.step, self.options
        new = step - self.saved_at
        self.tokens += new * max(1, options.grad_acc) * options.batch * self.source.filling.context
        self.saved_at = step
        state = Snapshot(self._progress(), self._moments(), self.tests.past)
        patience = Patience(
            self.trainer.config.wait_for_space, say=self.out, stopped=lambda: self.signals.requested
        )
        patience(lambda: self.job.save(state))
        if self.held_out:
            self.out(f"train_opt_callback: iter={step:6d} held-out loss={self.held_out_loss():f}")

    def held_out_loss(self) -> float:
        """Nats per token of the text that is not trained on."""
        place = self.trainer.backend.to_device
        with self.trainer.evaluated_model(), torch.no_grad():
            losses = [next_token(self.job.model, place(batch)).metrics["loss"] for batch in self.held_out]
        return float(sum(losses)) / sum(batch.count for batch in self.held_out)

    def _progress(self) -> Progress:
        source, tests = self.source, self.tests
        return Progress(
            iterations=self.trainer.step,
            samples=source.samples_seen,
            tokens=self.tokens,
            epochs=source.epochs,
            samples_hash=self.samples_hash,
            shuffle_state=source.state,
            sample_count=len(source.samples),
            next_sample=source.place,
            past=len(tests.past),
            best_loss=tests.best or 0.0,
            previous_loss=tests.previous or 0.0,
            no_improvement=tests.no_improvement,
            fresh=tests.best is None,
        )

    def _moments(self) -> Moments:
        first, second = (
            {key: value.cpu().numpy() for key, value in table.items()}
            for table in (self.adam.first, self.adam.second)
        )
        return Moments(first, second, self.adam.since)

    def _reshuffled(self, epochs: int) -> None:
        self.out(f"train_opt_callback: reshuffle samples. completed epochs: {epochs}")

    def _count_epochs(self, step: int) -> None:
        if self.options.epochs <= 0 or self.source.epochs - self.first_epoch < self.options.epochs:
            return
        if self.last_epoch_at < 0:
            self.last_epoch_at = step
        elif step > self.last_epoch_at:
            raise Stop(f"{self.options.epochs} epochs are done (--epochs)")

    def _count_skipped(self) -> None:
        self.skipped = self.skipped + 1 if float(self.trainer.step_metrics.get("skipped", 0)) else 0
        if self.skipped >= MOST_SKIPPED:
            raise UserError(
                f"{MOST_SKIPPED} iterations in a row had a loss that is not a finite number",
                where=f"iteration {self.trainer.step}",
                hint="go on from an earlier checkpoint with half the --adam-alpha or a longer --warmup",
            )


def _schedule(options: TrainerOptions, first: int, last: int) -> Schedule | FittedSchedule:
    least = options.adam_min_alpha / options.adam_alpha if options.adam_alpha else 0.0
    if options.fit_schedule:
        return FittedSchedule(options.warmup, last, options.cos_decay_min, least)
    restart = options.cos_decay_restart if options.enable_restart else None
    return Schedule(options.warmup, options.cos_decay_steps, options.cos_decay_min, least, restart)


def _adam(job: Job, options: TrainerOptions) -> ClassicAdam:
    """Adam with the moments of the checkpoint, or with new ones whose bias correction begins now."""
    betas = options.adam_beta1, options.adam_beta2
    if max(betas) >= 1:
        raise UserError("Adam's betas are below 1", value=max(betas), hint="0.9 and 0.999 are the defaults")
    settings = AdamSettings(
        options.adam_alpha, options.adam_decay, options.adam_decay_min_ndim, betas, options.adam_gclip
    )
    since = job.done.iterations if job.moments is None else job.moments.since
    dimensions = {slot.key: slot.dimensions for slot in job.slots}
    adam = ClassicAdam(job.parameters, dimensions, settings, since)
    if job.moments is not None:
        tables = {"first": job.moments.first, "second": job.moments.second}
        adam.load(
            {
                f"{key}.{which}": torch.from_numpy(values)
                for which, table in tables.items()
                for key, values in table.items()
            }
        )
    return adam


def _tests(job: Job, options: TrainerOptions) -> StopTests:
    past = job.past if len(job.past) else np.zeros(options.opt_past, np.float32)
    tests = StopTests(options.adam_epsf, options.opt_delta, options.opt_max_no_improvement, past.copy())
    if not job.done.fresh:
        tests.best, tests.previous = job.done.best_loss, job.done.previous_loss
        tests.no_improvement = job.done.no_improvement
    return tests


def _config(options: TrainerOptions, context: int, last: int) -> TrainConfig:
    cuda = options.gpu_layers > 0 and torch.cuda.is_available()
    return TrainConfig(
        max_steps=last + 1,
        max_length=context,
        per_device_train_batch_size=options.batch,
        gradient_accumulation_steps=max(1, options.grad_acc),
        max_grad_norm=0,
        seed=options.seed & 0xFFFFFFFF,
        device="cuda" if cuda else "cpu",
        precision="fp32",
        torch_compile="off",
    )
