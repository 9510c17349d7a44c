"""One process on one device; what other backends change is the sum over processes."""

import contextlib
import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from congling.core import machine
from congling.core.errors import UserError
from congling.data.batches import Batch
from congling.model.attention import LengthAttention
from congling.train.config import TrainConfig


class Single:
    """One process: its device, its precision, and how batches get there."""

    rank, world = 0, 1

    def __init__(self, config: TrainConfig) -> None:
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

    def gradient_sync(self, module: nn.Module, *, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Context of one micro-batch; gradients are exchanged in the last one only."""
        return contextlib.nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of this process's part of the loss."""
        loss.backward()

    def all_reduce_sum(self, value: Any) -> Any:
        """Sum of a number or tensor over all processes."""
        return value

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
