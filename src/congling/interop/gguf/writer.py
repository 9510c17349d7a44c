"""Writing a GGUF file (version 3): header, typed values, tensor list, then one tensor after another.

Never more than one tensor is in memory, and a file that could not be finished is not there at all.
"""

import math
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from congling.core.errors import UserError
from congling.core.output import replacing
from congling.core.progress import track
from congling.interop.gguf.fields import Field, text_bytes
from congling.quant.ggml import TYPES, row_bytes

ALIGNMENT = 32
MAGIC, VERSION = b"GGUF", 3


@dataclass(frozen=True)
class TensorData:
    """A tensor to be written; its values are asked for when their turn comes."""

    name: str
    shape: tuple[int, ...]
    """In torch's order: rows first, values of a row last."""
    type: str
    data: Callable[[], np.ndarray]
    """The blocks, as any array of ``bytes`` bytes (uint8 from ``quant.ggml.encode``, or plain values)."""

    @property
    def bytes(self) -> int:
        """Size in the file, without padding.

        Raises:
            UserError: the type does not exist or does not divide the rows.
        """
        return math.prod(self.shape[:-1]) * row_bytes(self.type, self.shape[-1])


def write_gguf(
    path: Path | str, fields: Mapping[str, Field], tensors: Iterable[TensorData], *, overwrite: bool = False
) -> None:
    """Write a file: ``fields`` in the order given, tensors in the order given.

    Raises:
        UserError: something is at ``path`` and ``overwrite`` is false; a name, value or tensor that the
            format cannot hold.
    """
    tensors = list(tensors)
    head = _header(fields, tensors)
    with replacing(Path(path), overwrite=overwrite) as temporary, temporary.open("wb") as stream:
        stream.write(head)
        if tensors:
            stream.write(bytes(-len(head) % ALIGNMENT))
        for tensor in track(tensors, "writing", total=len(tensors), unit="tensors"):
            _write(tensor, stream)


def _header(fields: Mapping[str, Field], tensors: list[TensorData]) -> bytes:
    parts = [MAGIC, struct.pack("<IQQ", VERSION, len(tensors), len(fields))]
    for key, field in fields.items():
        if not key.isascii() or not 0 < len(key) < 65536:
            raise UserError("no key that GGUF can hold", value=key)
        try:
            parts += [text_bytes(key), field.packed()]
        except (ValueError, TypeError, KeyError, OverflowError, struct.error) as error:
            raise UserError(
                f"a value that GGUF cannot hold as {field.type} ({error})", where=key, value=field.value
            ) from None
    offset, seen = 0, set[str]()
    for tensor in tensors:
        if not 0 < len(tensor.name.encode()) < 64 or tensor.name in seen:
            raise UserError("a tensor name that is too long or used twice", value=tensor.name)
        if not 1 <= len(tensor.shape) <= 4 or min(tensor.shape) < 1:
            raise UserError(
                "a tensor of a shape that GGUF cannot hold", where=tensor.name, value=tensor.shape
            )
        seen.add(tensor.name)
        parts += [text_bytes(tensor.name), struct.pack("<I", len(tensor.shape))]
        parts.append(struct.pack(f"<{len(tensor.shape)}Q", *reversed(tensor.shape)))
        parts.append(struct.pack("<IQ", TYPES[tensor.type].number, offset))
        offset += tensor.bytes + -tensor.bytes % ALIGNMENT
    return b"".join(parts)


def _write(tensor: TensorData, stream: BinaryIO) -> None:
    array = np.ascontiguousarray(tensor.data())
    if array.nbytes != tensor.bytes:
        raise ValueError(f"{tensor.name}: {array.nbytes} bytes were made where {tensor.bytes} are due")
    stream.write(array.reshape(-1).view(np.uint8).data)
    stream.write(bytes(-tensor.bytes % ALIGNMENT))
