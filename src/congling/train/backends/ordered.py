"""Sums in one fixed order, so that gradients have the same bits on any number of processes.

Addition of floats is not associative: the order decides about the last bits. Here it is that of one binary
tree over the micro-batches of a step, each node the sum of its two halves (the left one larger by one where
the count is odd)::

    process 0 │ process 1          a node that covers one process's micro-batches is added up there,
     0   1    │  2   3             the nodes above it by all: the same tree, wherever it is cut
     └─┬─┘    │  └─┬─┘
       └───────┬───┘

So the sum depends on the number of processes only where their shares are no nodes of the tree: they are
where that number is a power of two and divides the micro-batches. (Precedent: EasyScale, SC 2023.)
"""

# W processes; N matrices of one shape, R rows, C columns

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

BUCKET = 1 << 22
"""Most values that are exchanged together; a larger tensor goes alone."""


@functools.cache
def merges(count: int) -> tuple[int, ...]:
    """How often two nodes are added up once each of ``count`` summands has come in its turn.

    >>> merges(4), merges(5)
    ((0, 1, 0, 2), (0, 1, 1, 0, 2))
    """
    if count == 1:
        return (0,)
    *before, last = merges(count - count // 2) + merges(count // 2)
    return (*before, last + 1)


def tree_sum(values: Sequence[Any]) -> Any:
    """Sum of at least one value, by the tree."""
    if len(values) == 1:
        return values[0]
    left = len(values) - len(values) // 2
    return tree_sum(values[:left]) + tree_sum(values[left:])


def shares_are_nodes(accumulation: int, world: int) -> bool:
    """Whether the micro-batches of each process are a node of the tree over those of the step."""
    return accumulation % world == 0 and world & (world - 1) == 0


class GradientTree:
    """Adds the gradients of one process's micro-batches, which come one after another.

    Whatever is to be added next lies in ``parameter.grad``, where the backward pass adds by itself; other
    nodes wait on a stack: none for up to three micro-batches, and about log2 of them beyond.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._waiting: list[list[Tensor | None]] = []

    @contextlib.contextmanager
    def adding(self, index: int, count: int, world: int) -> Iterator[None]:
        """Context of one of ``count`` micro-batches; after the last one all processes exchange their sums."""
        self.begin(index, count)
        yield
        self.end(index, count)
        if index == count - 1 and world > 1:
            self.exchange()

    def begin(self, index: int, count: int) -> None:
        """Make ready for the backward pass of a micro-batch."""
        if not index:
            self._waiting = []  # a step that broke off may have left some
        elif not merges(count)[index]:
            self._waiting.append([parameter.grad for parameter in self.parameters])
            for parameter in self.parameters:
                parameter.grad = None

    def end(self, index: int, count: int) -> None:
        """Add up what is complete after it."""
        for _ in range(merges(count)[index] - 1):
            for parameter, left in zip(self.parameters, self._waiting.pop(), strict=True):
                if left is not None:
                    parameter.grad = left if parameter.grad is None else parameter.grad.add_(left)

    def exchange(self) -> None:
        """Replace each gradient by the sum of all processes' ones.

        Each process adds up a W-th of the values: two exchanges of (W - 1)/W of the gradients' size, as many
        bytes as a ring's.
        """
        used = torch.tensor([float(one.grad is not None) for one in self.parameters])
        used = used.to(self.parameters[0].device)
        dist.all_reduce(used, dist.ReduceOp.MAX)
        bucket, size = list[Tensor](), 0
        for parameter, known in zip(self.parameters, used.tolist(), strict=True):
            if not known:
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if bucket and size + parameter.numel() > BUCKET:
                _sum_together(bucket)
                bucket, size = [], 0
            bucket.append(parameter.grad)
            size += parameter.numel()
        if bucket:
            _sum_together(bucket)


def _sum_together(gradients: list[Tensor]) -> None:
    world, sizes = dist.get_world_size(), [one.numel() for one in gradients]
    alone = len(gradients) == 1 and gradients[0].is_contiguous() and sizes[0] % world == 0
    padding = gradients[0].new_zeros(-sum(sizes) % world)
    flat = gradients[0].view(-1) if alone else torch.cat([*(one.flatten() for one in gradients), padding])
    if world == 2:  # of two there is one order
        dist.all_reduce(flat)
    else:
        parts = torch.empty_like(flat)
        dist.all_to_all_single(parts, flat)
        dist.all_gather(list(flat.view(world, -1).unbind()), tree_sum(parts.view(world, -1).unbind()))
    if not alone:
        for gradient, value in zip(gradients, flat[: sum(sizes)].split(sizes), strict=True):
            gradient.copy_(value.view_as(gradient))


def sum_of_processes(value: Tensor) -> Tensor:
    """Sum of all processes' tensors, in the order of the processes' tree."""
    every = [torch.empty_like(value) for _ in range(dist.get_world_size())]
    dist.all_gather(every, value)
    return tree_sum(every)


def one_by_one(function: Callable[[Tensor], Tensor], matrices: Tensor) -> Tensor:
    """What a function of a stack makes of each of (N, R, C), alone: a batch of products may be rounded by how
    many there are."""
    return torch.cat([function(matrix) for matrix in matrices.split(1)])


def shared_out(function: Callable[[Tensor], Tensor], matrices: Tensor) -> Tensor:
    """The same, each matrix by one process: (N, R, C), equal in all of them, to what becomes of it."""
    world, rank, (count, *shape) = dist.get_world_size(), dist.get_rank(), matrices.shape
    each = -(-count // world)
    own, made = matrices[rank * each : (rank + 1) * each], matrices.new_zeros(each, *shape)
    if len(own):
        made[: len(own)] = one_by_one(function, own)
    every = matrices.new_empty(world, each, *shape)
    dist.all_gather(list(every.unbind()), made)
    return every.flatten(0, 1)[:count]


def total_norm(gradients: Iterable[Tensor]) -> Tensor:
    """Norm of all gradients together: added up in float64, one tensor after another, as float32."""
    norms = [torch.linalg.vector_norm(one, dtype=torch.float64) for one in gradients]
    return torch.linalg.vector_norm(torch.stack(norms)).float() if norms else torch.tensor(0.0)
