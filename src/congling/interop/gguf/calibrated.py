"""What a calibration text says of a model's matrices, and their blocks rounded by it.

::

    collect              rows ─▶ the model in floats ─▶ Σ x² of every matrix: an importance matrix
    encoded_in_sequence  rows ─ embedding ─▶ block 0 ─▶ block 1 …   H = Σ xxᵀ; ggml's search weighed by its
                                             diagonal, codes by GPTQ; then the blocks' values stand in the
                                             model, and the next block reads what they make

Output and embedding are left out, as llama-imatrix leaves them out. Rows of a matrix are independent, so they
are encoded in our order and moved as blocks when a file is written.
"""

# N rows of text, T tokens of a row, E experts, O outputs, I inputs

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from congling.core.errors import UserError
from congling.core.progress import track
from congling.interop.gguf.imatrix import ImportanceMatrix, InputSquares
from congling.model.moe import Experts
from congling.model.transformer import Transformer
from congling.quant import ggml
from congling.quant.onto_ggml import onto_ggml

Rounding = Literal["nearest", "gptq"]
_TOKENS = 2048
"""Tokens computed at once."""


@dataclass(frozen=True)
class Calibration:
    """What weighs the rounding of a file's tensors."""

    matrix: ImportanceMatrix
    rows: Tensor | None = None
    """(N, T) ids for GPTQ; None: ggml's own search, weighed by the matrix."""


class Sums:
    """Squares of the inputs of one matrix, or of each expert's; with ``gram`` all products of two."""

    def __init__(self, experts: int, inputs: int, *, gram: bool) -> None:
        self.counts, self.squares = np.zeros(experts), np.zeros((experts, inputs))
        self.gram = torch.zeros(inputs, inputs, dtype=torch.float64) if gram else None

    def add(self, x: Tensor, product: Tensor | None, expert: int = 0) -> None:
        """Add inputs (n, I) and, where they are wanted, their products xᵀx."""
        self.counts[expert] += len(x)
        if product is None:
            self.squares[expert] += x.square().sum(0).double().numpy()
        else:
            self.squares[expert] += product.diagonal().double().numpy()
        if self.gram is not None and product is not None:
            self.gram += product

    def entry(self) -> InputSquares:
        """As an importance matrix holds it.

        Raises:
            UserError: inputs were not finite.
        """
        if not np.isfinite(self.squares).all():
            raise UserError("the model computes values that are not finite on the calibration text")
        return InputSquares(self.squares.astype(np.float32), self.counts.astype(np.float32))


@torch.inference_mode()
def collect(model: Transformer, rows: Tensor) -> dict[str, InputSquares]:
    """Squares of the inputs of every matrix in the blocks of a model (float32, evaluating), by parameter.

    Raises:
        UserError: the model computes values that are not finite.
    """
    with _watched(model, gram=False) as sums:
        for part in track(_batches(rows), "calibrating", unit="batches"):
            model(part)
    return {name: one.entry() for name, one in sums.items() if name.startswith("blocks.")}


@torch.inference_mode()
def encoded_in_sequence(model: Transformer, rows: Tensor, types: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Blocks (…, O, bytes of a row) uint8 of the matrices in the model's blocks, by parameter.

    Matrices of experts, which see few tokens each, get the importance alone.

    Args:
        model: float32, in evaluation mode; its weights become those of the blocks.
        rows: (N, T) ids.
        types: ggml's type of every matrix.

    Raises:
        UserError: weights or inputs that are not finite.
    """
    ways = [model.begin(part) for part in _batches(rows)]
    found: dict[str, np.ndarray] = {}
    for layer, block in track(list(enumerate(model.blocks)), "quantising", unit="blocks"):
        with _watched(block, gram=True) as sums:
            for x, contexts in ways:
                block(x, contexts[layer], None)
        for inner, one in sums.items():
            name, weight = f"blocks.{layer}.{inner}", block.get_parameter(inner)
            try:
                found[name] = _blocks(weight, types[name], one)
            except UserError as error:
                raise UserError(error.what, where=name, value=error.value, hint=error.hint) from None
            weight.copy_(torch.from_numpy(ggml.decode(found[name], types[name])))
        ways = [(block(x, contexts[layer], None), contexts) for x, contexts in ways]
    return found


def _batches(rows: Tensor) -> tuple[Tensor, ...]:
    return rows.split(max(1, _TOKENS // rows.shape[1]))


@contextmanager
def _watched(module: nn.Module, *, gram: bool) -> Iterator[dict[str, Sums]]:
    """Sums of the inputs of the matrices inside a module, by parameter, added to by every pass."""
    sums: dict[str, Sums] = {}
    last: list[tuple[Tensor, Tensor]] = []

    def product(x: Tensor) -> Tensor | None:
        """xᵀx, made once for the layers that read one tensor one after another."""
        if not gram:
            return None
        if not last or last[0][0] is not x:
            flat = x.flatten(0, -2)
            last[:] = [(x, flat.T @ flat)]
        return last[0][1]

    def of_linear(name: str, layer: nn.Linear) -> Callable[..., None]:
        sums[name] = Sums(1, layer.in_features, gram=gram)
        return lambda _, given: sums[name].add(given[0].flatten(0, -2), product(given[0]))

    def of_experts(name: str, experts: Experts) -> Callable[..., None]:
        for part in ("gate", "up", "down"):
            weight = getattr(experts, part)
            sums[f"{name}.{part}"] = Sums(len(weight), weight.shape[-1], gram=False)

        def see(_: nn.Module, given: tuple[Any, ...]) -> None:
            for expert in range(len(experts.gate)):
                x = given[0][(given[1].choice == expert).any(-1)]
                sums[f"{name}.gate"].add(x, None, expert)
                sums[f"{name}.up"].add(x, None, expert)
                hidden = silu(linear(x, experts.gate[expert])) * linear(x, experts.up[expert])
                sums[f"{name}.down"].add(hidden, None, expert)

        return see

    hooks = [
        each.register_forward_pre_hook(
            of_linear(f"{name}.weight", each) if isinstance(each, nn.Linear) else of_experts(name, each)
        )
        for name, each in module.named_modules()
        if isinstance(each, nn.Linear | Experts)
    ]
    try:
        yield sums
    finally:
        for hook in hooks:
            hook.remove()


def _blocks(weight: Tensor, type: str, sums: Sums) -> np.ndarray:
    importance = sums.entry().importance
    if weight.dim() == 3:
        return ggml.encode(weight.numpy(), type, importance)
    raw = ggml.encode(weight.numpy(), type, importance[0])
    if sums.gram is None:
        return raw
    return onto_ggml(weight, torch.from_numpy(raw), type, 2 / sums.counts[0] * sums.gram).numpy()
