"""What the inputs of a linear layer look like over a calibration text, in one matrix and a few vectors."""

# N tokens of a pass, I inputs

from dataclasses import dataclass

import torch
from torch import Tensor

FEWEST_TOKENS = 256
"""Tokens that have to reach a layer for its statistics to say anything; below, it is rounded to nearest."""


@dataclass(frozen=True)
class InputStatistics:
    """Inputs x of a layer over all tokens that reached it; sums in float64, so that order changes little."""

    tokens: int
    gram: Tensor
    """(I, I) float64: 2/n · Σ xxᵀ, the Hessian of the squared error of one output by its row of weights."""
    mean_abs: Tensor
    """(I,) mean |x|."""
    max_abs: Tensor
    """(I,) largest |x|."""
    mean_square: Tensor
    """(I,) mean x²: ggml's importance."""


class SquareSums:
    """Adds up the squares of what passes by: all that an importance matrix holds."""

    def __init__(self, inputs: int, device: torch.device) -> None:
        self.tokens = 0
        self.squares = torch.zeros(inputs, dtype=torch.float64, device=device)

    def add(self, x: Tensor) -> None:
        """Add the inputs of one pass: (..., I)."""
        rows = x.detach().reshape(-1, x.shape[-1]).float()
        if len(rows):
            self.tokens += len(rows)
            self._add(rows)

    def _add(self, rows: Tensor) -> None:
        self.squares += rows.square().sum(0)


class InputSums(SquareSums):
    """Adds up what passes by: products of every two inputs, and their sizes."""

    def __init__(self, inputs: int, device: torch.device) -> None:
        super().__init__(inputs, device)
        self.products = torch.zeros(inputs, inputs, dtype=torch.float64, device=device)
        self.squares = self.products.diagonal()
        self.sizes = torch.zeros(inputs, dtype=torch.float64, device=device)
        self.largest = torch.zeros(inputs, device=device)

    def _add(self, rows: Tensor) -> None:
        self.products += rows.T @ rows
        self.sizes += rows.abs().sum(0)
        self.largest = torch.maximum(self.largest, rows.abs().amax(0))

    def statistics(self) -> InputStatistics:
        """Of all that was added, on the CPU; zeros where nothing was. The sums are used up: there is one
        matrix, not two."""
        count = max(1, self.tokens)
        gram = self.products.mul_(2 / count).cpu()
        return InputStatistics(
            self.tokens, gram, (self.sizes / count).cpu(), self.largest.double().cpu(), gram.diagonal() / 2
        )
