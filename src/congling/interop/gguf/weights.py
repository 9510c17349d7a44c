"""The tensors of a GGUF file under our names and in our arrangement, each read when it is asked for.

``pieces`` says where each of our parameters lies, as rows of a tensor in the file, so that it serves floats
and packed blocks alike.
"""

# H heads, D head width

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from congling.core.errors import UserError
from congling.interop.gguf.arrangement import Heads, Rows, to_half_split, turned_heads
from congling.interop.gguf.file import GGUFFile
from congling.interop.gguf.names import fused_name, gguf_name, our_name
from congling.interop.gguf.stretch_reading import tables
from congling.model.checkpoint import expected_shapes
from congling.model.config import ModelConfig

_Rows = TypeVar("_Rows", bound=Rows)


@dataclass(frozen=True)
class Piece:
    """Where one of our parameters lies in a file."""

    tensor: str
    """GGUF's name."""
    shape: tuple[int, ...]
    """Of our parameter."""
    rows: slice | None = None
    """Some rows of a fused tensor only."""
    heads: Heads | None = None
    """Heads whose rows stand in another order in the file."""

    def arranged(self, rows: _Rows) -> _Rows:
        """Our rows from those of the whole tensor, floats (R, ...) or blocks (R, bytes)."""
        taken: _Rows = rows if self.rows is None else rows[self.rows]  # pyright: ignore[reportArgumentType]
        return taken if self.heads is None else to_half_split(taken, self.heads)


def pieces(file: GGUFFile, config: ModelConfig, architecture: str) -> dict[str, Piece]:
    """Every parameter of the model by our name; checks that the file holds just these, in their shapes.

    Raises:
        UserError: tensors are missing, unknown or of another shape, or the model is too large to be built.
    """
    found: dict[str, Piece] = {}
    used = tables(file, architecture)
    expected = expected_shapes(config, len(file.tensors), file.path)
    for name, shape in expected.items():
        piece = _piece(name, expected, file, config, architecture)
        stored = file.info(piece.tensor).shape
        rows = stored[0] if piece.rows is None else piece.rows.stop - piece.rows.start
        if (rows, *stored[1:]) != shape or (piece.rows is not None and piece.rows.stop > stored[0]):
            what = f"{piece.tensor} has the wrong shape for {name} {shape}"
            raise UserError(what, where=file.path, value=stored)
        found[name] = piece
        used.add(piece.tensor)
    _refuse_unused(file, architecture, used)
    return found


class GGUFWeights(Mapping[str, Tensor]):
    """Our parameters as float32, decoded one at a time."""

    def __init__(self, file: GGUFFile, places: Mapping[str, Piece]) -> None:
        self.file, self.places = file, places

    def __getitem__(self, name: str) -> Tensor:
        piece = self.places[name]
        return torch.from_numpy(np.ascontiguousarray(piece.arranged(self.file.array(piece.tensor))))

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def _piece(
    name: str, shapes: Mapping[str, tuple[int, ...]], file: GGUFFile, config: ModelConfig, architecture: str
) -> Piece:
    theirs, shape = gguf_name(name, architecture), shapes[name]
    heads = turned_heads(name, config, architecture)
    fused = fused_name(name, architecture)
    if fused is None and theirs not in file.tensors:  # any architecture may have its queries fused
        fused = fused_name(name, "gpt2")
    if fused is None or fused[0] not in file.tensors:
        return Piece(theirs, shape, None, heads)
    ends = np.cumsum([shapes[part][0] for part in fused[1]])
    place = fused[1].index(name)
    return Piece(fused[0], shape, slice(int(ends[place]) - shape[0], int(ends[place])), heads)


def _refuse_unused(file: GGUFFile, architecture: str, used: set[str]) -> None:
    """A tensor nobody reads would change the result in llama.cpp and not here."""
    for name in file.tensors:
        if name in used:
            continue
        ours = our_name(name, architecture)
        # A softmax router has no bias; zeros stand for it where the architecture wants one.
        if ours is not None and ours.endswith("mlp.router.bias") and not file.array(name).any():
            continue
        raise UserError("a tensor that we do not compute with", where=file.path, value=name)
