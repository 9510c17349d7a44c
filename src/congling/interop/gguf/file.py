"""A GGUF file, opened: its typed values and its tensors, nothing copied until it is asked for.

Tensors and large arrays are views of the mapped file; ``parser.py`` has checked the header before.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from congling.core import files
from congling.core.errors import UserError
from congling.interop.gguf.fields import Field
from congling.interop.gguf.parser import Parser, TensorInfo
from congling.interop.gguf.writer import TensorData, write_gguf
from congling.quant import ggml

__all__ = ["Field", "GGUFFile", "TensorData", "TensorInfo", "write_gguf"]

_MISSING = object()


@dataclass(frozen=True)
class GGUFFile:
    """The values and tensors of one file."""

    path: Path
    version: int
    fields: Mapping[str, Field]
    tensors: Mapping[str, TensorInfo]
    _map: np.ndarray = field(repr=False)

    @classmethod
    def open(cls, path: Path | str) -> GGUFFile:
        """Map a file and check its header.

        Raises:
            UserError: no such file, no GGUF file, cut short, contradicting itself, or beyond the limits.
        """
        path = Path(path)
        try:
            with files.opened(path) as stream:
                length = stream.seek(0, 2)
                mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if length else b""
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            raise UserError(f"the file cannot be read ({why})", value=str(path)) from None
        return cls(path, *Parser(path, mapped).header(), np.frombuffer(mapped, np.uint8))

    def value(self, key: str, default: Any = None) -> Any:
        """The value of a key as stored, ``default`` if it is not there."""
        return self.fields[key].value if key in self.fields else default

    def text(self, key: str, default: Any = _MISSING) -> str:
        """A string.

        Raises:
            UserError: it is missing and there is no default, or another type.
        """
        return self._typed(key, default, ("string",))

    def integer(self, key: str, default: Any = _MISSING) -> int:
        """A whole number of any width.

        Raises:
            UserError: it is missing and there is no default, or another type.
        """
        return self._typed(key, default, ("u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64"))

    def real(self, key: str, default: Any = _MISSING) -> Any:
        """A finite floating-point number; 1e-06 stored in 32 bits reads 1e-06 again.

        Raises:
            UserError: it is missing and there is no default, another type, or not finite.
        """
        value = self._typed(key, default, ("f32", "f64"))
        if value is not None and not math.isfinite(value):
            raise UserError("a number that is not finite", where=f"{self.path}: {key}", value=value)
        return (
            float(str(np.float32(value))) if key in self.fields and self.fields[key].type == "f32" else value
        )

    def flag(self, key: str, default: Any = _MISSING) -> bool:
        """A truth value.

        Raises:
            UserError: it is missing and there is no default, or another type.
        """
        return self._typed(key, default, ("bool",))

    def _typed(self, key: str, default: Any, types: tuple[str, ...]) -> Any:
        found = self.fields.get(key)
        if found is None:
            if default is _MISSING:
                raise UserError("a key is missing", where=self.path, value=key)
            return default
        if found.type not in types:
            raise UserError(f"{key} has the wrong type", where=self.path, value=found.type)
        return found.value

    def raw(self, name: str) -> np.ndarray:
        """The blocks of a tensor, a view of the file: uint8 (rows, bytes of a row).

        Raises:
            UserError: there is no such tensor.
        """
        info = self.info(name)
        return self._map[info.offset : info.offset + info.bytes].reshape(-1, info.row_bytes)

    def array(self, name: str) -> np.ndarray:
        """The values of a tensor: float32, of its shape.

        Raises:
            UserError: there is no such tensor, or its type cannot be decoded.
        """
        info = self.info(name)
        try:
            return ggml.decode(self.raw(name), info.type).reshape(info.shape)
        except UserError as error:
            raise UserError(error.what, where=f"{self.path}: {name}", value=error.value) from None

    def info(self, name: str) -> TensorInfo:
        """Shape, type and place of a tensor.

        Raises:
            UserError: there is no such tensor.
        """
        if name not in self.tensors:
            raise UserError("a tensor is missing", where=self.path, value=name)
        return self.tensors[name]
