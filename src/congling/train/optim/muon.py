"""Muon: momentum, made orthogonal (Jordan et al. 2024), for all matrices of one shape at once.

A gradient matrix is usually dominated by a few directions. Replacing its singular values by about 1 moves all
directions alike, which needs far fewer steps. Newton-Schulz iterations do that with matrix multiplications
alone; stacking the matrices of equal shape turns hundreds of small products into a few batched ones.
"""

# N matrices of one shape, R rows (outputs), C columns (inputs)

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from congling.train.config import MuonConfig

EachMatrix = Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]
"""Applies a function of a stack (N, R, C) to all its matrices, here or on several processes."""
QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of x, x³, x⁵: steep at 0, and keeping singular values within about [0.7, 1.2]."""


def orthogonalise(matrices: Tensor, iterations: int = 5, products: torch.dtype = torch.float32) -> Tensor:
    """Move the singular values of each matrix towards 1: (N, R, C) -> (N, R, C); a zero matrix stays zero.

    ``products`` is the type to multiply in; bf16 is exact enough, since the next step corrects its errors.
    """
    x = (matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(products)
    tall = x.shape[1] > x.shape[2]
    if tall:  # the Gram matrix of the shorter side is smaller
        x = x.mT
    a, b, c = QUINTIC
    for _ in range(iterations):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)


def at_once(function: Callable[[Tensor], Tensor], matrices: Tensor) -> Tensor:
    """All matrices of a stack together."""
    return function(matrices)


@dataclass
class _Stack:
    """All matrices of one shape, with the momentum they share a tensor for."""

    parameters: list[nn.Parameter]
    """Each one matrix, or a pile of them (experts)."""
    momentum: Tensor
    """(N, R, C)."""

    def gradients(self) -> Tensor:
        """(N, R, C), a copy."""
        return torch.cat([_matrices(_gradient(parameter)) for parameter in self.parameters])

    def weights(self) -> list[Tensor]:
        """N views (R, C) into the parameters."""
        return [matrix for parameter in self.parameters for matrix in _matrices(parameter.data)]


class Muon:
    """Muon for parameters of two dimensions, or of more, which are piles of matrices."""

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        config: MuonConfig,
        products: torch.dtype = torch.float32,
        each_matrix: EachMatrix = at_once,
    ) -> None:
        self.config, self.each_matrix = config, each_matrix
        self.orthogonalise = partial(orthogonalise, iterations=config.ns_steps, products=products)
        alike: dict[torch.Size, list[nn.Parameter]] = {}
        for parameter in parameters:
            alike.setdefault(parameter.shape[-2:], []).append(parameter)
        self.stacks = [
            _Stack(found, torch.cat([torch.zeros_like(_matrices(parameter.data)) for parameter in found]))
            for found in alike.values()
        ]

    @torch.no_grad()
    def step(self, step: int, factor: float, skip: Tensor) -> None:
        """Move the weights; ``skip`` (scalar, 0 or 1) leaves weights and momentum as they are."""
        config, rate = self.config, self.config.learning_rate * factor
        beta = _momentum(config, step)
        keep = 1 - skip
        for stack in self.stacks:
            gradients = torch.where(skip.bool(), 0.0, stack.gradients())  # 0 times NaN would still be NaN
            stack.momentum.lerp_(gradients, (1 - beta) * keep)
            gradients.lerp_(stack.momentum, beta)  # Nesterov: look ahead along the momentum
            update = self.each_matrix(self.orthogonalise, gradients)
            update.mul_(keep * (-rate * _scale(config, *update.shape[1:])))
            weights = stack.weights()
            torch._foreach_mul_(weights, 1 - keep * (rate * config.weight_decay))
            torch._foreach_add_(weights, list(update.unbind(0)))

    def tensors(self) -> dict[str, Tensor]:
        """State by name, for a checkpoint: one stack for each shape."""
        return {_stack_name(stack): stack.momentum for stack in self.stacks}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what ``tensors`` gave."""
        for stack in self.stacks:
            stack.momentum.copy_(tensors[_stack_name(stack)])


def _momentum(config: MuonConfig, step: int) -> float:
    """Of a step: it grows while gradients still go stale quickly."""
    done = min(1.0, step / config.momentum_warmup_steps) if config.momentum_warmup_steps else 1.0
    return config.momentum_start + done * (config.momentum - config.momentum_start)


def _scale(config: MuonConfig, rows: int, columns: int) -> float:
    if config.adjust_lr_fn == "original":
        return math.sqrt(max(1, rows / columns))
    return 0.2 * math.sqrt(max(rows, columns))


def _matrices(tensor: Tensor) -> Tensor:
    """(…, R, C) -> (count, R, C), a view."""
    return tensor.view(-1, *tensor.shape[-2:])


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _stack_name(stack: _Stack) -> str:
    return "muon." + "x".join(str(size) for size in stack.momentum.shape[1:])
