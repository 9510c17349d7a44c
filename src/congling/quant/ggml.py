"""ggml's tensor types: how many values a block holds, in how many bytes, and float32 to blocks and back.

``Q8_0``, say, keeps 32 values of a row in 34 bytes: one float16 scale and 32 small integers. Blocks never
cross a row, so a row's length must be a multiple of the block's.

Source: the ``gguf`` package for the layouts and for decoding; the k-quants are encoded by ggml's own kernels,
so that a file is byte for byte what llama.cpp's quantiser writes.
"""

# n values of a row, B bytes of a row

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

from congling.core.errors import UserError
from congling.quant import library


class BlockType(NamedTuple):
    """One of ggml's tensor types."""

    number: int
    """As stored in files."""
    values: int
    """Values of a block."""
    bytes: int
    """Bytes of a block."""


TYPES: dict[str, BlockType] = {
    kind.name: BlockType(int(kind), *GGML_QUANT_SIZES[kind]) for kind in GGML_QUANT_SIZES
}
NAMES: dict[int, str] = {kind.number: name for name, kind in TYPES.items()}
_PLAIN: dict[str, type[np.generic]] = {
    "F32": np.float32, "F16": np.float16, "F64": np.float64,
    "I8": np.int8, "I16": np.int16, "I32": np.int32, "I64": np.int64,
}  # fmt: skip
_KERNEL_ONLY = frozenset(
    {
        "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS",
        "IQ3_S", "IQ4_NL", "IQ4_XS",
    }
)  # fmt: skip
"""Encoded by ggml; the ``gguf`` package can only decode them."""
_SEARCHED = frozenset({"Q4_0", "Q4_1", "Q5_0", "Q5_1"})
"""Encoded by either: with an importance matrix ggml searches for scales, which the package does not."""
_CHUNK = 1 << 22
"""Values decoded at once: the steps in between take several times their memory."""


def row_bytes(type: str, values: int) -> int:
    """Bytes of one row of ``values`` values.

    Raises:
        UserError: no such type, or the row is not a whole number of blocks.
    """
    kind = _known(type)
    if values % kind.values:
        raise UserError(
            f"rows of {type} hold a multiple of {kind.values} values",
            value=values,
            hint="choose a type of smaller blocks (Q8_0: 32; F16: any)",
        )
    return values // kind.values * kind.bytes


def encode(values: np.ndarray, type: str, importance: np.ndarray | None = None) -> np.ndarray:
    """Blocks of float32 values: (..., n) float32 -> (..., B) uint8.

    Args:
        values: rows, or for each expert its rows.
        type: one of ``TYPES``.
        importance: (n,), or (E, n) for values (E, rows, n) of experts: how much the error of each column
            counts in the search for scales and codes. Types that need no search take no notice of it.

    Raises:
        UserError: no such type, none that can be encoded, rows that are no whole number of blocks, values
            that are not finite or beyond the type's range; an importance that is unsound, or none for a type
            that cannot be encoded without.
    """
    values = np.ascontiguousarray(values, np.float32)
    shape = (*values.shape[:-1], row_bytes(type, values.shape[-1]))
    if type in ("F32", "F16", "F64"):
        with np.errstate(over="ignore"):
            plain = values.astype(_PLAIN[type])
        if type == "F16" and not np.isfinite(plain).all() and np.isfinite(values).all():
            raise UserError("values beyond ±65504 do not fit F16", hint="choose BF16 or F32")
        return plain.view(np.uint8).reshape(shape)
    if not np.isfinite(values).all():
        raise UserError(f"values that are not finite cannot be stored as {type}")
    if importance is not None and importance.ndim == 2:
        if importance.shape[:1] != values.shape[:-2]:
            raise UserError("an importance matrix of another number of experts", value=len(importance))
        return np.stack([encode(values[expert], type, row) for expert, row in enumerate(importance)])
    if type in _KERNEL_ONLY or (importance is not None and type in _SEARCHED):
        return library.quantize(values, _known(type).number, shape[-1], importance).reshape(shape)
    return _by_package(lambda: quants.quantize(values, GGMLQuantizationType[type]), type, "encoded")


def decode(raw: np.ndarray, type: str) -> np.ndarray:
    """Values of blocks: (..., B) uint8 -> (..., n) float32.

    Raises:
        UserError: no such type, none that can be decoded, or rows that are no whole number of blocks.
    """
    kind = _known(type)
    if raw.shape[-1] % kind.bytes:
        raise UserError(f"rows of {type} take a multiple of {kind.bytes} bytes", value=raw.shape[-1])
    shape = (*raw.shape[:-1], raw.shape[-1] // kind.bytes * kind.values)
    if type in _PLAIN:
        return np.ascontiguousarray(raw).view(_PLAIN[type]).astype(np.float32).reshape(shape)
    rows = raw.reshape(-1, raw.shape[-1])
    out = np.empty((len(rows), shape[-1]), np.float32)
    step = max(1, _CHUNK // max(1, shape[-1]))
    for start in range(0, len(rows), step):
        part = np.ascontiguousarray(rows[start : start + step])
        with np.errstate(over="ignore", invalid="ignore"):  # whatever a file holds is decoded as it is
            out[start : start + step] = _by_package(
                lambda part=part: quants.dequantize(part, GGMLQuantizationType[type]), type, "decoded"
            )
    return out.reshape(shape)


def _by_package(work: Callable[[], np.ndarray], type: str, verb: str) -> np.ndarray:
    try:
        return work()
    except (NotImplementedError, KeyError):
        raise UserError(f"tensors of this type cannot be {verb}", value=type) from None


def _known(type: str) -> BlockType:
    if type not in TYPES:
        raise UserError("no such tensor type", value=type, hint=f"known: {', '.join(TYPES)}")
    return TYPES[type]
