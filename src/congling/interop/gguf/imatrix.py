"""Importance matrices: how much the error of each column of a tensor counts, as llama-imatrix writes them.

::

    general.type = imatrix
    blk.0.attn_q.weight.in_sum2    F32 (I,), of experts (E, I): Σ x² over the tensor's inputs
    blk.0.attn_q.weight.counts     F32 (1,), of experts (E, 1): how many inputs that were
"""

# E experts (1 where there are none), I inputs

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import numpy as np

from congling.core.errors import UserError
from congling.interop.gguf.file import Field, GGUFFile, TensorData, write_gguf

KIND = "imatrix"
_SUMS, _COUNTS = ".in_sum2", ".counts"


@dataclass(frozen=True)
class InputSquares:
    """What reached one tensor."""

    sums: np.ndarray
    """(E, I) float32: Σ x²."""
    counts: np.ndarray
    """(E,) float32."""

    @property
    def importance(self) -> np.ndarray:
        """(E, I) float32: mean x²; ones for an expert that no token reached, as llama-quantize has it, and
        where all inputs were 0."""
        counts = self.counts[:, None]
        known = (counts > 0) & self.sums.any(axis=1, keepdims=True)
        return np.where(known, self.sums / np.maximum(counts, 1), 1).astype(np.float32)


@dataclass(frozen=True)
class ImportanceMatrix:
    """One file: what reached which tensor, by GGUF's names, and what was read for it."""

    tensors: Mapping[str, InputSquares]
    datasets: tuple[str, ...] = ()
    """Names of the texts."""
    chunks: int = 0
    """Rows of text."""
    chunk_size: int = 0
    """Tokens of a row."""

    def fields(self, file: str) -> dict[str, Field]:
        """What llama-quantize writes into a model that was weighed by this, but without directories.

        Args:
            file: what was named on the command line.
        """
        names = ", ".join(PureWindowsPath(name).name for name in self.datasets)  # either kind of slash
        return {
            "quantize.imatrix.file": Field("string", file),
            "quantize.imatrix.dataset": Field("string", names),
            "quantize.imatrix.entries_count": Field("u32", len(self.tensors)),
            "quantize.imatrix.chunks_count": Field("u32", self.chunks),
        }

    def of(self, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """Importance of the columns of a tensor (rows, I) or (E, rows, I): (I,) or (E, I); None without data.

        Raises:
            UserError: what is known is of another shape.
        """
        found = self.tensors.get(name)
        if found is None or not found.counts.any():
            return None
        importance, wanted = found.importance, (*shape[:-2], shape[-1])
        if importance.size != np.prod(wanted) or importance.shape[-1] != shape[-1]:
            what = "the importance matrix is of another model: a tensor has other columns"
            raise UserError(what, where=name, value=importance.shape)
        return importance.reshape(wanted)


def read(path: Path | str) -> ImportanceMatrix:
    """Open a file of llama-imatrix, or of ``write``.

    Raises:
        UserError: no such file, damaged, something else than an importance matrix, sums that are not finite
            or negative, counts that are missing or do not fit, a number of rows that cannot be.
    """
    file = GGUFFile.open(path)
    if file.text("general.type", "model") != KIND:
        raise UserError("this GGUF file holds no importance matrix", where=file.path)
    names = [name.removesuffix(_SUMS) for name in file.tensors if name.endswith(_SUMS)]
    tensors = {name: _entry(file, name) for name in names}
    if not tensors:
        raise UserError("an importance matrix without data", where=file.path)
    datasets = file.value("imatrix.datasets", ())
    if isinstance(datasets, str | int | float):
        raise UserError("imatrix.datasets has the wrong type", where=file.path)
    sizes = [file.integer(key, 0) for key in ("imatrix.chunk_count", "imatrix.chunk_size")]
    if min(sizes) < 0 or max(sizes) >= 2**32:
        raise UserError("an importance matrix of rows that cannot be", where=file.path, value=sizes)
    return ImportanceMatrix(tensors, tuple(str(name) for name in datasets), *sizes)


def write(matrix: ImportanceMatrix, path: Path | str, *, overwrite: bool = False) -> None:
    """Write a file that llama-quantize reads too.

    Raises:
        UserError: something is at ``path`` and ``overwrite`` is false.
    """
    fields = {
        "general.type": Field("string", KIND),
        "imatrix.datasets": Field("array:string", list(matrix.datasets)),
        "imatrix.chunk_count": Field("u32", matrix.chunks),
        "imatrix.chunk_size": Field("u32", matrix.chunk_size),
    }
    tensors = []
    for name, entry in sorted(matrix.tensors.items()):
        sums, counts = entry.sums.astype(np.float32), entry.counts.astype(np.float32)[:, None]
        if len(sums) == 1:
            sums, counts = sums[0], counts[0]
        tensors.append(TensorData(name + _SUMS, sums.shape, "F32", lambda sums=sums: sums))
        tensors.append(TensorData(name + _COUNTS, counts.shape, "F32", lambda counts=counts: counts))
    write_gguf(path, fields, tensors, overwrite=overwrite)


def _entry(file: GGUFFile, name: str) -> InputSquares:
    place = f"{file.path}: {name}"
    if name + _COUNTS not in file.tensors:
        raise UserError("an importance matrix without counts", where=place)
    infos = [file.info(name + end) for end in (_SUMS, _COUNTS)]
    if any(info.type != "F32" for info in infos):
        raise UserError("an importance matrix that is not float32", where=place)
    sums, counts = (file.array(info.name) for info in infos)
    sums, counts = sums.reshape(-1, sums.shape[-1]), counts.ravel()
    if len(sums) != len(counts):
        raise UserError("sums and counts of an importance matrix do not fit", where=place, value=sums.shape)
    for part in (sums, counts):
        if not np.isfinite(part).all() or part.min() < 0:
            raise UserError("an importance matrix with values that are not finite or negative", where=place)
    return InputSquares(sums, counts)
