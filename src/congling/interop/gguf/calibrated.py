"""What a calibration text says of a model's matrices, and their blocks rounded by it.

::

    collect              rows ─▶ the model in floats ─▶ Σ x² of every matrix: an importance matrix
    encoded_in_sequence  rows ─ embedding ─▶ block 0 ─▶ block 1 …   H = 2/n Σ xxᵀ; ggml's search weighed by
                                             its diagonal, codes by GPTQ; then the blocks' values stand in the
                                             model, and the next block reads what they make

Experts are matrices of their own here, each with the inputs that reached it. Output and embedding are left
out, as llama-imatrix leaves them out. Rows of a matrix are independent, so they are encoded in our order and
moved as blocks when a file is written.
"""

# N rows of text, T tokens of a row, O outputs, I inputs

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from congling.core.errors import UserError
from congling.core.progress import track
from congling.core.units import some
from congling.interop.gguf.imatrix import ImportanceMatrix, InputSquares
from congling.model.transformer import Transformer
from congling.quant import ggml
from congling.quant.experts import parameter_of, separate_experts
from congling.quant.layouts import layout_of
from congling.quant.onto_ggml import onto_ggml
from congling.quant.statistics import FEWEST_TOKENS, InputStatistics, SquareSums
from congling.quant.walk import Rows, Walk

Rounding = Literal["nearest", "gptq"]
_TOKENS = 2048
"""Tokens computed at once."""


@dataclass(frozen=True)
class Calibration:
    """What weighs the rounding of a file's tensors."""

    matrix: ImportanceMatrix
    rows: Tensor | None = None
    """(N, T) ids for GPTQ; None: ggml's own search, weighed by the matrix."""
    name: str = ""
    """Of the text, shards or matrix, without a directory; without a name the file does not tell of it."""


@torch.inference_mode()
def collect(model: Transformer, rows: Tensor) -> dict[str, InputSquares]:
    """Squares of the inputs of every matrix in the blocks of a model, by parameter.

    Args:
        model: float32, in evaluation mode; its experts are taken apart.
        rows: (N, T) ids.

    Raises:
        UserError: the model computes values that are not finite.
    """
    separate_experts(model)
    walk = Walk(model, _batches(rows))
    found: dict[str, list[SquareSums]] = {}
    for _ in track(model.blocks, "calibrating", unit="blocks"):
        for place, sums in walk.observed(walk.places(), SquareSums, advance=True).items():
            found.setdefault(parameter_of(place), []).append(sums)
    return {
        name: InputSquares(
            torch.stack([one.squares for one in sums]).float().numpy(),
            np.array([one.tokens for one in sums], np.float32),
        )
        for name, sums in found.items()
    }


@torch.inference_mode()
def encoded_in_sequence(
    model: Transformer, rows: Tensor, types: Mapping[str, str]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Blocks (…, O, bytes of a row) uint8 of the matrices in the model's blocks, by parameter; and notes.

    A matrix that few tokens reach, as an expert's may be, gets ggml's codes.

    Args:
        model: float32, in evaluation mode; its experts are taken apart, weights become those
            of the blocks.
        rows: (N, T) ids.
        types: ggml's type of every matrix that is to be rounded.

    Raises:
        UserError: weights or inputs that are not finite.
    """
    separate_experts(model)
    walk = Walk(model, _batches(rows))
    found: dict[str, list[np.ndarray]] = {}
    unreached: list[str] = []
    for _ in track(model.blocks, "quantising", unit="blocks"):
        for place, statistics in walk.statistics(walk.places()).items():
            layer: Any = model.get_submodule(place)
            if (type := types.get(parameter_of(place))) is None:
                continue
            try:
                raw = _blocks(layer.weight, type, statistics)
            except UserError as error:
                raise UserError(error.what, where=place, value=error.value, hint=error.hint) from None
            if statistics.tokens < FEWEST_TOKENS and layout_of(type) is not None:
                unreached.append(place)
            layer.weight.copy_(torch.from_numpy(ggml.decode(raw, type)))
            found.setdefault(parameter_of(place), []).append(raw)
        walk.advance()
    notes = [f"{some(unreached)}: ggml's codes, since fewer than {FEWEST_TOKENS} tokens came by"]
    whole = {name: np.stack(raw) if ".experts." in name else raw[0] for name, raw in found.items()}
    return whole, notes if unreached else []


def _batches(rows: Tensor) -> list[Rows]:
    return [(part, None, None) for part in rows.split(max(1, _TOKENS // rows.shape[1]))]


def _blocks(weight: Tensor, type: str, statistics: InputStatistics) -> np.ndarray:
    squares = statistics.mean_square if statistics.mean_square.any() else torch.ones(weight.shape[1])
    raw = ggml.encode(weight.numpy(), type, squares.float().numpy())
    if statistics.tokens < FEWEST_TOKENS:
        return raw
    return onto_ggml(weight, torch.from_numpy(raw), type, statistics.gram).numpy()
