"""The same step in smaller parts, for less memory: fewer rows at a time, as many micro-batches more.

A step learns from the same rows in the same order, but its sums are rounded otherwise, and dropout falls on
other values: from there on the weights are not bit for bit those of a run with larger parts.
"""

import copy
import gc
from typing import Any

import torch

from congling.core.out_of_memory import Shortage, is_out_of_memory, shortage, tried
from congling.train.backends.single import Single
from congling.train.loop import Trainer


def smaller(rows: int, accumulation: int) -> tuple[int, int] | None:
    """At most half the rows, and more micro-batches for as many rows a step; None where a row is left.

    >>> smaller(16, 1), smaller(12, 2), smaller(3, 1), smaller(1, 8)
    ((8, 2), (6, 4), (1, 3), None)
    """
    total = rows * accumulation
    found = next((part for part in range(rows // 2, 0, -1) if total % part == 0), None)
    return None if found is None else (found, total // found)


def can_shrink(batches: Any) -> bool:
    """Whether batches are cut by rows, so that they can be cut smaller."""
    return hasattr(batches, "rows") and hasattr(batches, "accumulation")


def shrink(trainer: Trainer, rows: int, accumulation: int) -> None:
    """Let the trainer's batches have so many rows from here on."""
    batches = copy.copy(trainer.batches)
    vars(batches).update(rows=rows, accumulation=accumulation)
    trainer.batches, trainer.micro_batch = batches, (rows, accumulation)


def recovers(trainer: Trainer, error: BaseException) -> bool:
    """Whether a step that ran out of memory can be made again in smaller parts, as is asked for.

    Not where weights were being moved already, nor with several processes, which would all have to.
    """
    if not (trainer.config.auto_find_batch_size and is_out_of_memory(error)):
        return False
    possible = trainer.backend.world == 1 and can_shrink(trainer.batches)
    return trainer.learning and possible and smaller(*trainer.micro_batch) is not None


def begin_step_anew(trainer: Trainer) -> None:
    """Forget what a step that broke off had added up, and take smaller micro-batches from here on.

    To be called once the error is no longer handled: until then its frames hold their tensors.
    """
    found = smaller(*trainer.micro_batch)
    assert found is not None
    shrink(trainer, *found)
    trainer.learning = False
    trainer.balance.end()
    for parameter in trainer.model.parameters():
        parameter.grad = None
    for name, buffer in trainer.model.named_buffers():
        if name.rpartition(".")[2] == "load":  # experts count their tokens from one update to the next
            buffer.zero_()
    gc.collect()
    if trainer.backend.device.type == "cuda":
        torch.cuda.empty_cache()


def shortage_on(backend: Single, error: BaseException) -> Shortage:
    """Numbers of the memory that ran out: the GPU's where it was that, else the main memory."""
    text = str(error)
    if backend.device.type != "cuda" or "cuda" not in text.lower():
        return shortage(error)
    free, total = torch.cuda.mem_get_info(backend.device)
    held = torch.cuda.memory_reserved(backend.device)
    return Shortage(tried(text), held, min(total, held + free), "the GPU")
