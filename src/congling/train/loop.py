"""READ ME SECOND: the only training loop. Batches, an objective and a model go in; the weights change.

::

    batches(step) ─ micro-batches ─┬─ Step.forward ─ total / count ─ backward ─┐
                                   └──────────── gradients add up ─────────────┘
    gradients ─ norm, clip ─ finite? ─ optimizers at lr_factor(step) ─ average ─ hooks

Pretraining, fine-tuning, preferences and reinforcement differ in batches and objective, never here.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from congling.core.progress import quiet, stage
from congling.core.seeds import mixed
from congling.data import step_hash
from congling.data.batches import Batch, Batches
from congling.data.prefetch import prefetch
from congling.train.backends.single import Single
from congling.train.config import TrainConfig
from congling.train.ema import EMA
from congling.train.objectives.batch import DeviceBatch
from congling.train.objectives.loss import Loss
from congling.train.optim.build import Optimizer, build_optimizers
from congling.train.optim.clipping import clip, clipped_together
from congling.train.runs.deadline import Deadline
from congling.train.schedule import decay_start, learning_rate_factor
from congling.train.step_balance import StepBalance

Objective = Callable[[Any, Any], Loss]
"""(model, batch on the device) to sums over its targets; each knows its own kind of batch."""
AfterUpdate = Callable[[Callable[[Tensor], Tensor], Tensor], None]
Hook = Callable[["Trainer"], None]
"""Called after every step."""


@dataclass(frozen=True)
class SkippedBatches:
    """Batches that a run passed over when it went back to an earlier step."""

    step: int
    """After which step."""
    first: int
    """Number of the first of them."""
    count: int


class Step(nn.Module):
    """Model and objective as one module, so that DDP and compile wrap a single forward."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: DeviceBatch) -> Loss:
        """Sums over one micro-batch."""
        return self.objective(self.model, batch)


class Trainer:
    """Everything that changes during a run.

    Attributes:
        step: updates done (or skipped) so far.
        tokens: targets seen so far, over all processes.
        step_metrics: what the last step measured; its tensors are still on the device.
        lr_factor: step to the share of the peak learning rate.
        step_seconds: what the last step took, without what happened between the steps.
        best: step of the best evaluation and the number that says so, kept by the evaluation hook.
        rollbacks: how often the run went back to an earlier step.
        skipped: the batches it passed over when it did, in order.
        micro_batch: rows of a micro-batch and micro-batches of a step, where batches are cut by rows.
        learning: whether a step has begun, and moved nothing yet.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Batches,
        objective: Objective,
        config: TrainConfig,
        backend: Single,
        *,
        after_update: AfterUpdate | None = None,
        before_update: Callable[[dict[str, Tensor]], None] | None = None,
        optimizers: Sequence[Optimizer] | None = None,
        lr_factor: Callable[[int], float] | None = None,
        deadline: Deadline | None = None,
        prefetch: int = 2,
    ) -> None:
        """Set up; batches are made ``prefetch`` steps in advance.

        ``after_update`` follows each update; it is given what sums a tensor over all processes, and 1 where
        the update was skipped (on the device, else 0).
        ``before_update`` precedes it; it is given the step's means, may add to them, and ends the run by
        raising. ``optimizers`` and ``lr_factor`` take the place of those of ``config``; of a run with a
        ``deadline`` learning rate and end are decided while it trains.
        """
        self.model, self.config, self.backend = model.to(backend.device), config, backend
        self.batches, self.prefetch = batches, prefetch
        self.before_update, self.after_update = before_update, after_update
        if optimizers is None:
            optimizers = build_optimizers(self.model, config.optimizer, backend.dtype, backend.each_matrix)
        self.optimizers = list(optimizers)
        self.clipped = clipped_together(self.model)
        self.deadline = deadline
        planned = self._planned_factor if deadline is None else deadline.factor
        self.lr_factor = planned if lr_factor is None else lr_factor
        self._decay_start = decay_start(config.schedule, config.max_steps) if lr_factor is None else None
        self.peak = config.optimizer.learning_rate
        self.ema = EMA(self.model, config.ema_decay) if config.ema_decay is not None else None
        self.balance = StepBalance(self.model, backend)
        self.objective = objective
        self.step, self.tokens = 0, 0.0
        self.step_metrics: dict[str, Any] = {}
        self.step_seconds = 0.0
        self.best: dict[str, float] | None = None
        self.micro_batch = config.per_device_train_batch_size, config.gradient_accumulation_steps
        self.learning = False
        self.rollbacks = 0
        self.skipped: tuple[SkippedBatches, ...] = ()

    @cached_property
    def module(self) -> nn.Module:
        """Model and objective as the backend runs them; made with the first step, when it is known how."""
        return self.backend.wrap(Step(self.model, self.objective))

    def batch_of(self, step: int) -> int:
        """Number of the batch that the update after ``step`` steps learns from: the step, and what was
        skipped."""
        return step + sum(one.count for one in self.skipped)

    @property
    def steps(self) -> int:
        """Steps of the whole run, as far as that is decided."""
        return self.config.max_steps if self.deadline is None else self.deadline.steps

    @property
    def decay_start(self) -> int | None:
        """Step after which the rate falls; None where every step depends on the end, or until it is known."""
        return self._decay_start if self.deadline is None else self.deadline.began

    def run(self, hooks: Sequence[Hook] = ()) -> None:
        """Train from ``step`` to the end; a hook ends it sooner by raising."""
        with self._stream() as stream, quiet():  # a line of its own shows how it goes
            for first, micro in enumerate(self._awaited(stream)):
                start = time.perf_counter()
                # the first step compiles what is compiled, and allocates
                with stage("preparing the first step") if not first else contextlib.nullcontext():
                    self.step_metrics = self.train_step(micro)
                self.step_seconds = time.perf_counter() - start
                for hook in hooks:
                    hook(self)

    def _awaited(self, stream: Iterator[Sequence[Batch]]) -> Iterator[Sequence[Batch]]:
        """Batches of the stream; those that the model makes itself are worth a line."""
        while self.step < self.steps:
            with stage("" if self.prefetch else "letting the model write"):
                micro = next(stream, None)
            if micro is None:
                return
            yield micro

    def train_step(self, micro: Sequence[Batch]) -> dict[str, Any]:
        """One update from the micro-batches of one step; returns what to log, still on the device."""
        self.learning = True
        self.model.train()
        count = self.backend.all_reduce_sum(self.backend.total([one.count for one in micro]))  # all ranks
        rows = step_hash.joined(self.backend.all_reduce_sum(step_hash.row_sums(micro)))
        measured: dict[str, list[Tensor]] = {}
        self.balance.begin(micro, count)
        for i, batch in enumerate(micro):
            self.balance.weigh(batch)
            # Randomness (dropout) is a function of the step: a resumed run needs no generator's state.
            if (place := self.backend.seed_of(i, len(micro))) is not None:
                torch.manual_seed(mixed(self.config.seed, self.step, place))
            with self.backend.gradient_sync(self.module, index=i, count=len(micro)):
                with self.backend.autocast():
                    loss = self.module(self.backend.to_device(batch))
                self.backend.backward(loss.total / count)
            for name, value in loss.metrics.items():
                measured.setdefault(name, []).append(value)
        self.balance.end()
        means = {
            name: self.backend.all_reduce_sum(self.backend.total(values)) / count
            for name, values in measured.items()
        }
        if self.before_update is not None:
            self.before_update(means)
        factor = self.lr_factor(self.step)
        self.learning = False
        norm, skipped = self._update(factor)
        self.step, self.tokens = self.step + 1, self.tokens + count
        place = {"step": self.step, "tokens": self.tokens, "rows_hash": rows}
        return place | means | {"gradient_norm": norm, "lr": self.peak * factor, "skipped": skipped}

    def _planned_factor(self, step: int) -> float:
        return learning_rate_factor(self.config.schedule, step, self.config.max_steps)

    def _update(self, factor: float) -> tuple[Tensor, Tensor]:
        """Clip and apply the gradients; gives their norm, and 1 if it was not finite and nothing changed."""
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        norm, skip = clip(self.clipped, self.config.max_grad_norm, self.backend.norm)
        for optimizer in self.optimizers:
            optimizer.step(self.step, factor, skip)
        for parameter in parameters:
            parameter.grad = None
        if self.after_update is not None:
            self.after_update(self.backend.all_reduce_sum, skip)
        if self.ema is not None:
            self.ema.update(self.step, skip)
        return norm, skip

    @contextlib.contextmanager
    def evaluated_model(self) -> Iterator[nn.Module]:
        """The model as it would be exported: averaged weights where there are any, no dropout."""
        self.model.eval()  # and it stays so: the next step sets it to training again
        with (
            self.backend.eval_context(),
            self.ema.in_place() if self.ema is not None else contextlib.nullcontext(),
        ):
            yield self.model

    @contextlib.contextmanager
    def _stream(self) -> Iterator[Iterator[Sequence[Batch]]]:
        """This process's batches from here to the end of the run."""
        place = (self.backend.rank, self.backend.world)
        end = self.steps if self.deadline is None else self.deadline.settings.most_steps
        first, stop = self.batch_of(self.step), self.batch_of(end)
        if not self.prefetch:
            yield (self.batches(number, *place) for number in range(first, stop))
            return
        with prefetch(
            self.batches, first, stop, rank=place[0], world=place[1], depth=self.prefetch
        ) as stream:
            yield stream
