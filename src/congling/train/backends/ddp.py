"""Several processes, each with the whole model and a part of every step (``torchrun -m congling …``).

Gradients are summed over the processes while the backward pass still runs. The loss is divided by the count
of targets of *all* processes, so the result is that of one process with the whole step, up to rounding. With
``train.sums=ordered`` they are summed after it, in one order, and the result is that of one process to the
bit.
"""

import contextlib
import gc
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from congling.core import machine
from congling.train.backends.ordered import shared_out, sum_of_processes
from congling.train.backends.peers import Peers
from congling.train.backends.single import Single, choose_device
from congling.train.config import TrainConfig

_joined: dict[str, Peers] = {}
"""The processes of the group, while there is one."""


class DDP(Single):
    """One of ``world`` processes started by torchrun; NCCL between GPUs, Gloo between CPUs."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        join(config.device, config.ddp_timeout)
        if self.device.type == "cuda":
            self.device = torch.device("cuda", torch.cuda.current_device())
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self._wrapped: DistributedDataParallel | None = None

    def wrap(self, step: nn.Module) -> nn.Module:
        """Compile, and exchange gradients while the backward pass runs; after it where sums are ordered."""
        step = super().wrap(step)
        if self.ordered:
            for tensor in (*step.parameters(), *step.buffers()):
                dist.broadcast(tensor.detach(), 0)
            return step
        # Buffers (the load of experts) are summed where they are used, not replaced by the first process's.
        self._wrapped = DistributedDataParallel(step, gradient_as_bucket_view=True, broadcast_buffers=False)
        return self._wrapped

    def gradient_sync(
        self, module: nn.Module, *, index: int, count: int
    ) -> contextlib.AbstractContextManager[Any]:
        """Keep gradients to ourselves until the last micro-batch."""
        if self._wrapped is None:
            return super().gradient_sync(module, index=index, count=count)
        return contextlib.nullcontext() if index == count - 1 else self._wrapped.no_sync()

    def backward(self, loss: Tensor) -> None:
        """DDP averages over processes; our loss is a part of a sum, so undo the division."""
        (loss if self._wrapped is None else loss * self.world).backward()

    def each_matrix(self, function: Callable[[Tensor], Tensor], matrices: Tensor) -> Tensor:
        """Where sums are ordered, each process makes its part of the stack, and all of them get the whole."""
        return shared_out(function, matrices) if self.ordered else super().each_matrix(function, matrices)

    def each_part(
        self, function: Callable[[Any], Sequence[float]], parts: Sequence[Any]
    ) -> list[Sequence[float]]:
        """Every ``world``-th part here, and what the others found of theirs."""
        own = range(self.rank, len(parts), self.world)
        found = [function(parts[i]) for i in own]
        width = torch.tensor(max(map(len, found), default=0), device=self.device)
        dist.all_reduce(width, dist.ReduceOp.MAX)
        if not width:
            return [()] * len(parts)
        table = torch.zeros(len(parts), int(width), dtype=torch.float64)
        for i, numbers in zip(own, found, strict=True):
            table[i, : len(numbers)] = torch.tensor(numbers, dtype=torch.float64)
        return self.all_reduce_sum(table).tolist()  # zeros and one number: no sum is rounded

    def all_reduce_sum(self, value: Any) -> Tensor:
        """Sum over all processes, as a tensor on the device: nobody waits for the number."""
        total = torch.as_tensor(value, dtype=torch.float64, device=self.device).clone()
        if self.ordered:
            return sum_of_processes(total)
        dist.all_reduce(total)
        return total

    def any_rank(self, flag: bool) -> bool:
        """Whether any process says yes; waits for the answer."""
        return bool(self.all_reduce_sum(float(flag)).item())

    def barrier(self) -> None:
        """Wait for all processes."""
        dist.barrier()

    def together(self) -> contextlib.AbstractContextManager[None]:
        """Context in which a process that is gone is named."""
        return together()

    def close(self) -> None:
        """Leave the process group; the module can no longer be trained.

        Its threads end only when nothing refers to the group. Those that outlived the interpreter could end
        the program with an error on its last step, so what the wrapped module holds of it goes first.
        """
        if (peers := _joined.pop("peers", None)) is not None:
            peers.close()
        if self._wrapped is not None:
            for name in ("reducer", "logger", "process_group"):
                vars(self._wrapped).pop(name, None)
        gc.collect()
        dist.destroy_process_group()


def join(device: str, timeout: float = 1800.0) -> bool:
    """Join the processes torchrun started, where it did; whether this is the first, or the only one.

    ``timeout``: seconds after which one that does not answer is waited for no longer.

    Raises:
        UserError: no such device here.
    """
    if machine.processes() == 1:
        return True
    if not dist.is_initialized():
        gpu = choose_device(device).type == "cuda"
        if gpu:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl" if gpu else "gloo", timeout=timedelta(seconds=timeout))
        _joined["peers"] = Peers(timeout)
    return dist.get_rank() == 0


def together() -> contextlib.AbstractContextManager[None]:
    """Context in which a process that is gone is named; it changes nothing where there is only one."""
    peers = _joined.get("peers")
    return contextlib.nullcontext() if peers is None else peers.named()


def broadcast_text(text: str) -> str:
    """What the first process says, in every process; the others wait for it."""
    if not dist.is_initialized():
        return text
    place = f"cuda:{torch.cuda.current_device()}" if dist.get_backend() == "nccl" else "cpu"
    said = torch.tensor(list(text.encode()), dtype=torch.uint8, device=place)
    length = torch.tensor(len(said), device=place)
    dist.broadcast(length, 0)
    said = said if dist.get_rank() == 0 else torch.empty(int(length), dtype=torch.uint8, device=place)
    dist.broadcast(said, 0)
    return bytes(said.tolist()).decode()


def build_backend(config: TrainConfig) -> Single:
    """DDP when torchrun started this process, else a single process."""
    return DDP(config) if machine.processes() > 1 else Single(config)
