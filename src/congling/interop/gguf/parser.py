"""The header of a GGUF file from outside: no count or offset is believed before the file bears it out.

::

    GGUF │ version │ tensors │ values │ key, type, value … │ name, shape, type, offset … │ padding │ data …

Version 1 (2023) has counts, lengths and sizes of 32 bits where 2 and 3, which are alike, have 64.
It may hold up to 2^16 keys, 2^16 tensors and 2^21 strings, far beyond any model, so that a hostile one costs
neither time nor memory.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from congling.core.errors import UserError
from congling.interop.gguf.fields import ARRAY, NAMES, SCALARS, STRING, Field, Strings
from congling.interop.gguf.writer import ALIGNMENT, MAGIC
from congling.quant import ggml

_LONGEST_ITEM = 1 << 18  # bytes of a string in an array: a token, a merge
_MOST_ENTRIES, _MOST_STRINGS, _LONGEST_NAME, _LONGEST_TEXT = 1 << 16, 1 << 21, 63, 1 << 24


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor is and how to read it."""

    name: str
    shape: tuple[int, ...]
    """In torch's order: rows first, values of a row last."""
    type: str
    offset: int
    """From the start of the file."""
    bytes: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return ggml.row_bytes(self.type, self.shape[-1])


class Parser:
    """A position in the file that only moves within it."""

    def __init__(self, path: Path, mapped: mmap.mmap | bytes) -> None:
        self.path, self.data, self.length, self.at, self.strings = path, mapped, len(mapped), 0, 0
        self.count = struct.Struct("<Q")
        """How counts, lengths and sizes are stored."""

    def header(self) -> tuple[int, dict[str, Field], dict[str, TensorInfo]]:
        """The version, the values and the tensors.

        Raises:
            UserError: no GGUF file, cut short, contradicting itself, or beyond the limits.
        """
        if bytes(self.data[:4]) != MAGIC:
            raise UserError("this is no GGUF file", value=str(self.path))
        self.at = 4
        version = self._number("<I", "the version")
        if version not in (1, 2, 3):
            why = "a big-endian file" if version >> 24 in (1, 2, 3) else "an unknown version of GGUF"
            hint = "convert the model again with a current converter"
            raise UserError(why, where=self.path, value=version, hint=hint)
        if version == 1:
            self.count = struct.Struct("<I")
        tensors, values = self._count("the tensor count"), self._count("the key count")
        self._limited(tensors, 16 + 2 * self.count.size, _MOST_ENTRIES, "tensors")
        self._limited(values, 5 + self.count.size, _MOST_ENTRIES, "keys")
        fields = self._entries(values)
        return version, fields, self._tensor_list(tensors, self._alignment(fields))

    def _fail(self, what: str, at: int | None = None, **more: Any) -> UserError:
        return UserError(what, where=f"{self.path}, byte {self.at if at is None else at}", **more)

    def _take(self, size: int, what: str) -> int:
        """Step over ``size`` bytes; where they begin."""
        if size > self.length - self.at:
            missing = size - (self.length - self.at)
            raise self._fail(f"the file ends within {what} ({missing} bytes more are needed)")
        self.at += size
        return self.at - size

    def _number(self, form: str, what: str) -> Any:
        at = self._take(struct.calcsize(form), what)
        return struct.unpack_from(form, self.data, at)[0]

    def _count(self, what: str) -> int:
        at = self._take(self.count.size, what)
        return self.count.unpack_from(self.data, at)[0]

    def _limited(self, count: int, least: int, most: int, what: str) -> None:
        """Refuse a count that the rest of the file, or any model, could not hold."""
        if count > most or count * least > self.length - self.at:
            raise self._fail(f"more {what} than the file can hold", value=count)

    def _text(self, what: str, most: int) -> str:
        size = self._count(f"the length of {what}")
        if size > most:
            at = self.at - self.count.size
            raise self._fail(f"{what} is longer than {most} bytes", at=at, value=size)
        at = self._take(size, what)
        return str(self.data[at : at + size], "utf-8", "surrogateescape")

    def _name(self, what: str, most: int, taken: Mapping[str, Any]) -> str:
        """A key or a tensor's name: visible ASCII, which messages can quote, and not there before."""
        start = self.at
        name = self._text(what, most)
        if not name or name in taken or not name.isascii() or not name.isprintable():
            raise self._fail(f"{what} is empty, odd or there twice", at=start, value=name)
        return name

    def _entries(self, count: int) -> dict[str, Field]:
        fields: dict[str, Field] = {}
        for _ in range(count):
            key = self._name("a key", 65535, fields)
            fields[key] = self._field(key)
        return fields

    def _field(self, key: str) -> Field:
        kind = self._number("<I", f"the type of {key}")
        if kind == ARRAY:
            return self._array(key)
        if kind not in NAMES:
            raise self._fail(f"{key} has an unknown type", at=self.at - 4, value=kind)
        if kind == STRING:
            return Field("string", self._text(key, _LONGEST_TEXT))
        name = NAMES[kind]
        dtype = np.dtype(SCALARS[name][1])
        at = self._take(dtype.itemsize, key)
        value = np.frombuffer(self.data, dtype, 1, at)[0].item()
        if name == "bool" and value > 1:
            raise self._fail(f"{key} is neither true nor false", at=at, value=value)
        return Field(name, bool(value) if name == "bool" else value)

    def _array(self, key: str) -> Field:
        start, kind = self.at, self._number("<I", f"the type of {key}")
        count = self._count(f"the length of {key}")
        if kind not in NAMES:
            raise self._fail(f"{key} is an array of an unknown type", at=start, value=kind)
        name = NAMES[kind]
        if kind == STRING:
            return Field("array:string", self._string_array(key, count))
        dtype = np.dtype(SCALARS[name][1])
        at = self._take(count * dtype.itemsize, key)
        array = np.frombuffer(self.data, dtype, count, at)
        return Field(f"array:{name}", array.astype(bool) if name == "bool" else array)

    def _string_array(self, key: str, count: int) -> Strings:
        size = self.count.size
        self._limited(count, size, _MOST_STRINGS - self.strings, f"strings in {key}")
        self.strings += count
        start = at = self.at
        unpack, data, end = self.count.unpack_from, self.data, self.length - size
        for index in range(count):
            if at > end:
                break
            length = unpack(data, at)[0]
            at += size + length
            if length > _LONGEST_ITEM:
                raise self._fail(f"string {index} of {key} is longer than {_LONGEST_ITEM} bytes", at=start)
            if at > self.length:
                raise self._fail(f"string {index} of {key} goes beyond the end of the file", at=start)
        else:
            self.at = at
            return Strings(memoryview(self.data), start, count, self.count)
        raise self._fail(f"the file ends within {key}", at=start)

    def _alignment(self, fields: Mapping[str, Field]) -> int:
        given = fields.get("general.alignment", Field("u32", ALIGNMENT))
        if given.type != "u32" or not 1 <= given.value <= 1 << 20 or given.value & (given.value - 1):
            raise UserError("general.alignment is no power of two", where=self.path, value=given.value)
        return given.value

    def _tensor_list(self, count: int, alignment: int) -> dict[str, TensorInfo]:
        listed: dict[str, tuple[tuple[int, ...], str, int]] = {}
        for _ in range(count):
            name = self._name("a tensor name", _LONGEST_NAME, listed)
            listed[name] = self._tensor(name)
        base = self.at + -self.at % alignment
        infos, expected = {}, 0
        for name, (shape, kind, offset) in listed.items():
            if offset != expected:
                what = f"{name} lies at offset {offset} of the data, where {expected} is due"
                raise UserError(what, where=self.path)
            size = math.prod(shape[:-1]) * ggml.row_bytes(kind, shape[-1])
            if base + offset + size > self.length:
                what = f"{name} needs {size} bytes from byte {base + offset} on, beyond the end of the file"
                raise UserError(what, where=self.path, value=self.length)
            infos[name] = TensorInfo(name, shape, kind, base + offset, size)
            expected += size + -size % alignment
        return infos

    def _tensor(self, name: str) -> tuple[tuple[int, ...], str, int]:
        start = self.at
        dimensions = self._number("<I", name)
        if not 1 <= dimensions <= 4:
            raise self._fail(f"{name} has an impossible number of dimensions", at=start, value=dimensions)
        sizes = tuple(self._count(name) for _ in range(dimensions))
        kind, offset = self._number("<I", name), self._number("<Q", name)
        if min(sizes) < 1 or math.prod(sizes) > 1 << 60:
            raise self._fail(f"{name} has an impossible shape", at=start, value=sizes)
        if kind not in ggml.NAMES:
            raise self._fail(f"{name} has an unknown tensor type", at=start, value=kind)
        type = ggml.NAMES[kind]
        if sizes[0] % (block := ggml.TYPES[type].values):
            what = f"rows of {name} hold {sizes[0]} values, no multiple of {block} as {type} needs"
            raise self._fail(what, at=start)
        return tuple(reversed(sizes)), type, offset
