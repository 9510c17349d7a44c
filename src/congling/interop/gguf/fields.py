"""The typed values of a GGUF file's header: their numbers, their bytes, and arrays read when asked for."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np

SCALARS: dict[str, tuple[int, str]] = {
    "u8": (0, "<u1"), "i8": (1, "<i1"), "u16": (2, "<u2"), "i16": (3, "<i2"), "u32": (4, "<u4"),
    "i32": (5, "<i4"), "f32": (6, "<f4"), "bool": (7, "|u1"), "u64": (10, "<u8"), "i64": (11, "<i8"),
    "f64": (12, "<f8"),
}  # fmt: skip
"""Number in files and numpy type of each kind of value that has a fixed size."""
STRING, ARRAY = 8, 9
NAMES = {number: name for name, (number, _) in SCALARS.items()} | {STRING: "string"}


@dataclass(frozen=True)
class Field:
    """A value and its type: ``u32``, ``f32``, ``bool``, ``string`` … or ``array:`` and one of these.

    Text that is no valid UTF-8, as pieces of characters in a vocabulary may be, holds its odd bytes as
    surrogates: ``text.encode("utf-8", "surrogateescape")`` gives back what the file holds.
    """

    type: str
    value: Any
    """A number, bool, string, numpy array or sequence of strings."""

    def packed(self) -> bytes:
        """The value as a file holds it, its type number first.

        Raises:
            ValueError, TypeError, KeyError, OverflowError, struct.error: the value does not fit its type.
        """
        kind, _, element = self.type.partition(":")
        if not element:
            return struct.pack("<I", _number(kind)) + _packed(kind, self.value)
        head = struct.pack("<IIQ", ARRAY, _number(element), len(self.value))
        if element == "string":
            return head + b"".join(_packed(element, text) for text in self.value)
        given = np.asarray(self.value)
        array = given.astype(SCALARS[element][1])
        if not np.array_equal(array, given) and element not in ("f32", "f64"):
            raise ValueError(f"values that do not fit {self.type}")
        return head + array.tobytes()


class Strings(Sequence[str]):
    """An array of strings in a file, each behind its ``length``, turned into text at the first use."""

    def __init__(self, buffer: memoryview, start: int, count: int, length: struct.Struct) -> None:
        self._buffer, self._start, self._count, self._length = buffer, start, count, length

    @cached_property
    def _items(self) -> list[str]:
        items, at = [], self._start
        for _ in range(self._count):
            (length,) = self._length.unpack_from(self._buffer, at)
            at += self._length.size + length
            items.append(str(self._buffer[at - length : at], "utf-8", "surrogateescape"))
        return items

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        return self._items[index]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and not isinstance(other, str) and list(self) == list(other)

    __hash__ = None  # pyright: ignore[reportAssignmentType] - compares like a list, so is no key


def text_bytes(text: str) -> bytes:
    """A string as GGUF stores it: its length (u64) and its bytes."""
    raw = text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(raw)) + raw


def _number(kind: str) -> int:
    return STRING if kind == "string" else SCALARS[kind][0]


def _packed(kind: str, value: Any) -> bytes:
    if kind == "string":
        return text_bytes(value)
    if kind in ("f32", "f64"):
        return struct.pack("<f" if kind == "f32" else "<d", value)
    size = np.dtype(SCALARS[kind][1]).itemsize
    return int(value).to_bytes(size, "little", signed=kind.startswith("i"))
