"""One process on one device; what other backends change is the sum over processes."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from congling.core import machine
from congling.core.errors import UserError
from congling.data.batches import Batch
from congling.model.attention import LengthAttention
from congling.train.backends.ordered import GradientTree, one_by_one, total_norm, tree_sum
from congling.train.config import TrainConfig


class Single:
    """One process: its device, its precision, and how batches get there.

    Attributes:
        ordered: whether sums have one order on any number of processes (``train.sums``), to be decided before
            the first step.
    """

    rank, world = 0, 1

    def __init__(self, config: TrainConfig) -> None:
        self.ordered = config.sums == "ordered"
        self._tree: GradientTree | None = None
        self.device = choose_device(config.device)
        self.dtype = choose_precision(config.precision, self.device)
        self.compile = config.torch_compile == "on" or (
            config.torch_compile == "auto" and self.device.type == "cuda"
        )
        # Values below 1e-38, common in saturated softmax, take a CPU up to 100 times as long as others.
        torch.set_flush_denormal(True)
        if self.device.type == "cuda":
            torch.set_float32_matmul_precision("high")

    def wrap(self, step: nn.Module) -> nn.Module:
        """Prepare model and objective, as one module, for training."""
        self._tree = GradientTree(step.parameters()) if self.ordered else None
        return self.compiled(step)

    def compiled(self, step: nn.Module) -> nn.Module:
        """Compile the blocks of the model, if so configured: one compilation serves all blocks of one shape.
        Where frequencies follow the position every batch would be a shape of its own, so blocks stay as they
        are."""
        if self.compile:
            model: Any = step.model
            model.varlen = False
            for block in getattr(model, "blocks", ()):
                if not isinstance(block.attention, LengthAttention):
                    block.compile(dynamic=False)
        return step

    def eval_context(self) -> contextlib.AbstractContextManager[Any]:
        """Context of held-out losses and samples: in training's precision; their shapes are not compiled
        for."""
        stack = contextlib.ExitStack()
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(self.autocast())
        return stack

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Context of the forward pass."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)

    def to_device(self, batch: Batch) -> Any:
        """Turn the numpy arrays of a batch into tensors on the device (``objectives/batch.py``)."""
        changes = {}
        for field in dataclasses.fields(batch):
            value = getattr(batch, field.name)
            if isinstance(value, np.ndarray):
                changes[field.name] = self._tensor(value)
        return dataclasses.replace(batch, **changes)

    def _tensor(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        # Pinned memory is what lets the copy run beside the computation.
        cuda = self.device.type == "cuda"
        return tensor.pin_memory().to(self.device, non_blocking=True) if cuda else tensor

    def gradient_sync(
        self, module: nn.Module, *, index: int, count: int
    ) -> contextlib.AbstractContextManager[Any]:
        """Context of one of ``count`` micro-batches; gradients are exchanged in the last one only."""
        return contextlib.nullcontext() if self._tree is None else self._tree.adding(index, count, self.world)

    def seed_of(self, index: int, count: int) -> int | None:
        """What tells the random numbers of a micro-batch from those of others in its step; None where it goes
        on with those of the one before."""
        if self.ordered:
            return self.rank * count + index
        return None if index else self.rank

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of this process's part of the loss."""
        loss.backward()

    def total(self, values: Sequence[Any]) -> Any:
        """Sum of a number or scalar that each micro-batch of this process has."""
        if not self.ordered:
            return sum(values, 0.0)
        return tree_sum([torch.as_tensor(one, dtype=torch.float64) for one in values])

    def norm(self, gradients: Iterable[Tensor]) -> Tensor:
        """Norm of all gradients together: a plain tensor, equal on all processes."""
        return total_norm(gradients) if self.ordered else nn.utils.get_total_norm(gradients)

    def each_matrix(self, function: Callable[[Tensor], Tensor], matrices: Tensor) -> Tensor:
        """What a function of a stack of matrices makes of (N, R, C), which are equal on all processes."""
        return one_by_one(function, matrices) if self.ordered else function(matrices)

    def each_part(
        self, function: Callable[[Any], Sequence[float]], parts: Sequence[Any]
    ) -> list[Sequence[float]]:
        """Numbers that a function measures of each part, such as a held-out batch, in the order of the parts.

        Processes that train together all ask at once, take the parts in turn, and get the same answer; where
        there are fewer numbers than of another part, zeros follow.
        """
        return [function(part) for part in parts]

    def all_reduce_sum(self, value: Any) -> Any:
        """Sum of a number or tensor over all processes."""
        return torch.as_tensor(value, dtype=torch.float64, device=self.device) if self.ordered else value

    def any_rank(self, flag: bool) -> bool:
        """Whether any process says yes."""
        return flag

    def together(self) -> contextlib.AbstractContextManager[None]:
        """Context of everything that processes do together."""
        return contextlib.nullcontext()

    def barrier(self) -> None:
        """Wait for all processes."""

    def close(self) -> None:
        """Leave the group of processes."""


def choose_device(name: str) -> torch.device:
    """``auto`` is the GPU where there is one.

    Raises:
        UserError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError("no such device", value=name, hint="write auto, cpu or cuda") from None
    if device.type not in ("cpu", "cuda") or (device.type == "cuda" and not torch.cuda.is_available()):
        raise UserError("this device is not available here", value=name, hint="write auto or cpu")
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """``auto``: bf16 matrix multiplications where the device has units for them, fp32 elsewhere. Weights stay
    fp32 in any case."""
    if name == "auto":
        gpu = device.type == "cuda"
        units = torch.cuda.is_bf16_supported(including_emulation=False) if gpu else machine.has_bf16_units()
        name = "bf16" if units else "fp32"
    return torch.bfloat16 if name == "bf16" else torch.float32
