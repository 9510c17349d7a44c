"""Measure instead of guessing: the machine's matmul peak, and time and memory of a real training step."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from congling.core import machine
from congling.core.progress import stage
from congling.data.batches import Batch
from congling.model.config import ModelConfig
from congling.model.counts import flops_per_token
from congling.model.transformer import Transformer
from congling.train.backends.single import Single, choose_device, choose_precision
from congling.train.config import TrainConfig
from congling.train.loop import Objective, Trainer
from congling.train.measurement import Calibration, Probe
from congling.train.objectives.next_token import next_token
from congling.train.waiting import Manner, other, threads


def matmul_peak(device: torch.device, dtype: torch.dtype, *, seconds: float = 0.5) -> float:
    """FLOP/s of the best of many square matrix multiplications, tried for about ``seconds``."""
    size = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(a)
    best, end = float("inf"), time.perf_counter() + seconds
    torch.mm(a, b, out=out)
    while best == float("inf") or time.perf_counter() < end:  # once at least, however busy the machine
        _wait(device)
        start = time.perf_counter()
        torch.mm(a, b, out=out)
        _wait(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


@stage("measuring this machine")
def probe(device: str = "auto", precision: str = "auto") -> Probe:
    """Find out where training will run, in which precision, and how fast matrices are multiplied there.

    Raises:
        UserError: no such device here.
    """
    place = choose_device(device)
    dtype = choose_precision(precision, place)
    found = Probe(matmul_peak(place, dtype), "bf16" if dtype == torch.bfloat16 else "fp32")
    if place.type != "cuda":
        return found
    gpu = torch.cuda.get_device_properties(place)
    return replace(found, accelerator=gpu.name, accelerator_memory=gpu.total_memory)


@stage("timing steps of this model", seconds=4.0)
def measure(
    model: ModelConfig,
    config: TrainConfig,
    *,
    seconds: float = 3.0,
    objective: Callable[[torch.device], Objective] | None = None,
) -> Calibration:
    """Train on random tokens for about ``seconds`` (two steps at least) and report the mean step.

    Where threads can wait in two manners both are tried; the faster one stays. ``objective`` makes what is
    minimised for a device; by default the next token's loss.
    """
    backend = Single(config)
    peak = matmul_peak(backend.device, backend.dtype)
    transformer = Transformer(model)
    transformer.checkpoint_blocks(config.gradient_checkpointing)
    minimised = next_token if objective is None else objective(backend.device)
    trainer = Trainer(transformer, _RandomBatches(model, config), minimised, config, backend, prefetch=0)
    first = _timed_step(trainer)  # compiles, allocates: not part of the pace
    pace, manner, slower = _pace(trainer, seconds - first)
    used = flops_per_token(model, config.max_length) * config.tokens_per_step / pace / peak
    cuda = backend.device.type == "cuda"
    memory = torch.cuda.max_memory_allocated() if cuda else machine.peak_memory_bytes()
    return Calibration(peak, pace, config.tokens_per_step, memory, used, manner, slower)


def _pace(trainer: Trainer, seconds: float) -> tuple[float, Manner | None, float | None]:
    """Mean seconds of a step, the manner of waiting it was reached with, and the seconds with the other."""
    switch = threads()
    if trainer.backend.device.type != "cpu" or not switch.switchable:
        return _mean_step(trainer, seconds), None, None
    found: dict[Manner, float] = {}
    for manner in (switch.manner, other(switch.manner)):
        switch.wait(manner)
        found[manner] = _mean_step(trainer, seconds / 2)
    better: Manner = "awake" if found["awake"] <= found["asleep"] else "asleep"
    switch.wait(better)
    return found[better], better, found[other(better)]


def _mean_step(trainer: Trainer, seconds: float) -> float:
    """Mean over about so many seconds, one step at least."""
    times = [_timed_step(trainer)]
    while sum(times) < seconds:
        times.append(_timed_step(trainer))
    return sum(times) / len(times)


@dataclass(frozen=True)
class _RandomBatches:
    """Random tokens in the shapes of training."""

    model: ModelConfig
    config: TrainConfig

    def __call__(self, step: int, rank: int, world: int) -> list[Batch]:
        shape = (self.config.per_device_train_batch_size, self.config.max_length + 1)
        tokens = np.random.default_rng(step).integers(
            0, self.model.vocab_size, (self.config.gradient_accumulation_steps, *shape)
        )
        return [Batch(row[:, :-1], row[:, 1:], count=float(row[:, 1:].size)) for row in tokens]


def _timed_step(trainer: Trainer) -> float:
    start = time.perf_counter()
    trainer.train_step(trainer.batches(trainer.step, 0, 1))
    _wait(trainer.backend.device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
