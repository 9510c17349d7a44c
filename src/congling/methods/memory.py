"""Out of memory while a model is trained or measured: what was needed, what was estimated, and what fits."""

import contextlib
import gc
from collections.abc import Callable, Iterator

import torch

from congling.core import machine
from congling.core.errors import UserError
from congling.core.out_of_memory import Shortage, is_out_of_memory
from congling.core.units import show_bytes
from congling.model.config import ModelConfig
from congling.plan.cost import memory
from congling.train import calibrate
from congling.train.backends.single import Single
from congling.train.config import TrainConfig
from congling.train.loop import Objective, Trainer
from congling.train.measurement import Calibration
from congling.train.micro_batch import shortage_on, smaller

SPARE = 0.95
"""Share of the room that a smaller micro-batch may fill."""


@contextlib.contextmanager
def shortage_explained(
    model: ModelConfig,
    train: TrainConfig,
    backend: Single,
    *,
    trained: int | None = None,
    trainer: Trainer | None = None,
) -> Iterator[None]:
    """Turn an out-of-memory error of the block into one for a person, with a smaller micro-batch that fits.

    Args:
        model: what is trained.
        train: how.
        backend: where.
        trained: how many values are learnt, where that is not all of the model.
        trainer: knows where in a step memory ran out, and of what micro-batch; by default within the first.

    Raises:
        UserError: memory ran out.
    """
    gpu = backend.device.type == "cuda"
    at_first = 0 if gpu else machine.memory_used()
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        where = "a micro-batch"
        if trainer is not None:
            rows, accumulation = trainer.micro_batch
            train = train.replace(per_device_train_batch_size=rows, gradient_accumulation_steps=accumulation)
            if not trainer.learning:
                where = f"an update, a held-out loss, a sample or a checkpoint at step {trainer.step}, with"
        parts = memory(model, train, gpu=gpu)
        if trained is not None:  # gradients and moments of an adapter alone
            share = trained / max(1.0, parts["parameters"] / 4)
            parts |= {name: share * parts[name] for name in ("gradients", "optimizer", "average of weights")}
        found = shortage_on(backend, error)
        advice = _advice(model, train, parts, found, at_first, gpu=gpu)
        batch = f"train.per_device_train_batch_size={train.per_device_train_batch_size}"
        what = (
            f"out of memory in {where} of {batch} × train.max_length={train.max_length}: {found}; "
            f"the estimate was {show_bytes(sum(parts.values()))} for the whole process"
        )
        raise UserError(what, hint=advice) from error


def fitting(
    model: ModelConfig, train: TrainConfig, found: Shortage, at_first: float, *, gpu: bool
) -> TrainConfig | None:
    """The largest smaller micro-batch of the same step that should fit; None where not even one row does.

    What the step itself takes is estimated; where more was held than that the estimate is scaled up.
    """
    step = _of_step(model, train, gpu=gpu)
    scale = max(1.0, (found.needed - at_first) / max(1.0, step))
    while (cut := smaller(train.per_device_train_batch_size, train.gradient_accumulation_steps)) is not None:
        train = train.replace(per_device_train_batch_size=cut[0], gradient_accumulation_steps=cut[1])
        if at_first + scale * _of_step(model, train, gpu=gpu) <= SPARE * found.room:
            return train
    return None


def _of_step(model: ModelConfig, train: TrainConfig, *, gpu: bool) -> float:
    """Estimated bytes that a step adds to a process that holds the model."""
    parts = memory(model, train, gpu=gpu)
    return sum(parts[name] for name in ("gradients", "optimizer", "activations", "loss"))


def _advice(
    model: ModelConfig,
    train: TrainConfig,
    parts: dict[str, float],
    found: Shortage,
    at_first: float,
    *,
    gpu: bool,
) -> str:
    other = (
        "close other programs, train.gradient_checkpointing=true, a shorter train.max_length "
        "or a smaller model"
    )
    fits = fitting(model, train, found, at_first, gpu=gpu)
    if fits is None:
        cut = smaller(train.per_device_train_batch_size, train.gradient_accumulation_steps)
        if cut is None:
            return other
        least = _cut(1, train.per_device_train_batch_size * train.gradient_accumulation_steps)
        return f"not even one row is sure to fit; the least is {least}; or {other}"
    words = _cut(fits.per_device_train_batch_size, fits.gradient_accumulation_steps)
    estimate = sum(parts.values()) - _of_step(model, train, gpu=gpu) + _of_step(model, fits, gpu=gpu)
    return (
        f"the same command with {words} makes the same step in smaller parts (about {show_bytes(estimate)}); "
        f"train.auto_find_batch_size=true finds it by itself; or {other}"
    )


def _cut(rows: int, accumulation: int) -> str:
    return f"train.per_device_train_batch_size={rows} train.gradient_accumulation_steps={accumulation}"


def measured(
    model: ModelConfig,
    train: TrainConfig,
    objective: Callable[[torch.device], Objective] | None = None,
    *,
    seconds: float = 3.0,
) -> Calibration:
    """A step of the planned run, as :func:`congling.train.calibrate.measure` takes it.

    With ``train.auto_find_batch_size`` it is measured in parts that fit, into which training will cut it,
    too.

    Raises:
        UserError: memory ran out.
    """
    while True:
        try:
            with shortage_explained(model, train, Single(train)):
                return calibrate.measure(model, train, objective=objective, seconds=seconds)
        except UserError as error:
            cut = smaller(train.per_device_train_batch_size, train.gradient_accumulation_steps)
            if cut is None or not (train.auto_find_batch_size and is_out_of_memory(error)):
                raise
        train = train.replace(per_device_train_batch_size=cut[0], gradient_accumulation_steps=cut[1])
        gc.collect()
