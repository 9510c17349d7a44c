"""Which tensor of a llama2.c model file stands where: headers and the order of version 0, 1 and 2.

::

    0   7 sizes │ all F32, each kind for all layers │ rotary tables │ output if the vocabulary is negative
    1   magic, 1, 7 sizes, shared │ zeros to 256 │ norms F32 │ matrices F32
    2   magic, 2, 7 sizes, shared, group │ zeros to 256 │ norms F32 │ matrices: i8 values, then F32 scales

Names are those of our own parameters. Rows of queries and keys are in the order of interleaved rotary pairs.
"""

import math
import struct
from dataclasses import dataclass
from typing import Self

import numpy as np

from congling.core.errors import UserError

MAGIC = 0x616B3432
HEADER_BYTES = 256
EPSILON, ROPE_BASE = 1e-5, 10_000.0
"""What run.c has built in: no header says otherwise."""
_SIZES = struct.Struct("<7i")
_LONGEST_CONTEXT = 2**16
_LARGEST = 2**24  # of any size in a header; far beyond any model
_NORMS = ("blocks.{}.attention_norm.weight", "blocks.{}.mlp_norm.weight", "norm.weight")
_MATRICES = (
    "embedding.weight",
    "blocks.{}.attention.query.weight",
    "blocks.{}.attention.key.weight",
    "blocks.{}.attention.value.weight",
    "blocks.{}.attention.output.weight",
    "blocks.{}.mlp.gate.weight",
    "blocks.{}.mlp.down.weight",
    "blocks.{}.mlp.up.weight",
)
_ORDER_0 = (_MATRICES[0], _NORMS[0], *_MATRICES[1:5], _NORMS[1], *_MATRICES[5:], _NORMS[2], "rotary tables")
_ORDER_1 = (*_NORMS, *_MATRICES)
HEAD = "head.weight"


@dataclass(frozen=True)
class Header:
    """Sizes of a model as its file states them."""

    version: int
    width: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    vocab_size: int
    context: int
    shared: bool
    """The output matrix is the embedding."""
    group: int = 0
    """Values that share one scale; version 2 only."""

    @property
    def head_width(self) -> int:
        """Channels of one head."""
        return self.width // self.heads

    @property
    def start(self) -> int:
        """Where the tensors begin, in bytes."""
        return HEADER_BYTES if self.version else _SIZES.size

    @classmethod
    def unpacked(cls, raw: bytes, where: object) -> Self:
        """Read the first 256 bytes of a file.

        Raises:
            UserError: they are no header, or sizes contradict each other.
        """
        if len(raw) < _SIZES.size:
            raise UserError("too short for a llama2.c model", where=where, value=f"{len(raw)} bytes")
        version = 0
        if raw[:4] == struct.pack("<I", MAGIC):
            version = int.from_bytes(raw[4:8], "little", signed=True)
            if version not in (1, 2) or len(raw) < HEADER_BYTES:
                raise UserError(
                    "unknown version of a llama2.c model",
                    where=where,
                    value=version,
                    hint="versions 0, 1 and 2 are read",
                )
        sizes = _SIZES.unpack_from(raw, 8 if version else 0)
        shared, group = sizes[5] > 0, 0
        if version:
            shared = raw[36] != 0
            group = int.from_bytes(raw[37:41], "little", signed=True) if version == 2 else 0
        vocab = abs(sizes[5]) if version == 0 else sizes[5]
        width, hidden, layers, heads, kv_heads, _, context = sizes
        found = cls(version, width, hidden, layers, heads, kv_heads, vocab, context, shared, group)
        found._check(where)
        return found

    def packed(self) -> bytes:
        """Bytes of the header, padding included."""
        vocab = -self.vocab_size if self.version == 0 and not self.shared else self.vocab_size
        sizes = _SIZES.pack(
            self.width, self.hidden, self.layers, self.heads, self.kv_heads, vocab, self.context
        )
        if self.version == 0:
            return sizes
        raw = struct.pack("<Ii", MAGIC, self.version) + sizes + bytes([self.shared])
        if self.version == 2:
            raw += struct.pack("<i", self.group)
        return raw.ljust(HEADER_BYTES, b"\0")

    def _check(self, where: object) -> None:
        sizes = (
            self.width,
            self.hidden,
            self.layers,
            self.heads,
            self.kv_heads,
            self.vocab_size,
            self.context,
        )
        if any(not 0 < size <= _LARGEST for size in sizes):
            raise UserError("this is no llama2.c model: its sizes are impossible", where=where, value=sizes)
        if self.context > _LONGEST_CONTEXT:  # nothing in the file bears it out, and tables grow with it
            raise UserError("a context beyond any llama2.c model", where=where, value=self.context)
        if self.width % self.heads or self.head_width % 2 or self.heads % self.kv_heads:
            sizes = {"dim": self.width, "n_heads": self.heads, "n_kv_heads": self.kv_heads}
            raise UserError(
                "the heads of this llama2.c model do not divide its width", where=where, value=sizes
            )
        if self.version == 2 and (self.group < 1 or self.width % self.group or self.hidden % self.group):
            raise UserError(
                "the group size does not divide dim and hidden_dim", where=where, value=self.group
            )


@dataclass(frozen=True)
class Entry:
    """One tensor of a file."""

    name: str
    shape: tuple[int, ...]
    offset: int
    """In bytes, of its first value."""
    group: int = 0
    """Values a scale when it is quantised, else 0; the scales follow the values."""

    @property
    def values(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Length in the file."""
        return self.values + 4 * (self.values // self.group) if self.group else 4 * self.values


def parse(mapped: np.ndarray, where: object) -> Header:
    """The header of a whole file (bytes), whose length it must explain exactly.

    Raises:
        UserError: it is no llama2.c model, or cut short.
    """
    header = Header.unpacked(mapped[:HEADER_BYTES].tobytes(), where)
    expected = file_bytes(header)
    if expected != mapped.size:
        what = f"by its sizes this llama2.c model has {expected} bytes, but the file has another length"
        raise UserError(what, where=where, value=mapped.size, hint="is it cut short, or something else?")
    return header


def file_bytes(header: Header) -> int:
    """Length that a file with this header has exactly; needs no memory, however large the sizes are."""
    total = header.start
    for pattern in _patterns(header):
        probe = Entry(pattern, _shape(pattern, header), 0, _group(pattern, header))
        total += probe.bytes * (header.layers if "{}" in pattern else 1)
    return total


def entries(header: Header) -> list[Entry]:
    """All tensors in the order of the file; version 0 has one named ``rotary tables`` among them."""
    found: list[Entry] = []
    offset = header.start
    for pattern in _patterns(header):
        for layer in range(header.layers if "{}" in pattern else 1):
            entry = Entry(pattern.format(layer), _shape(pattern, header), offset, _group(pattern, header))
            found.append(entry)
            offset += entry.bytes
    return found


def _patterns(header: Header) -> tuple[str, ...]:
    order = _ORDER_1 if header.version else _ORDER_0
    return order if header.shared else (*order, HEAD)


def _group(pattern: str, header: Header) -> int:
    return header.group if header.version == 2 and pattern not in _NORMS else 0


def _shape(pattern: str, header: Header) -> tuple[int, ...]:
    if pattern in _NORMS:
        return (header.width,)
    kept = header.kv_heads * header.head_width
    shapes = {
        "embedding": (header.vocab_size, header.width),
        "head": (header.vocab_size, header.width),
        "query": (header.width, header.width),
        "key": (kept, header.width),
        "value": (kept, header.width),
        "output": (header.width, header.width),
        "gate": (header.hidden, header.width),
        "up": (header.hidden, header.width),
        "down": (header.width, header.hidden),
        "rotary tables": (2, header.context, header.head_width // 2),
    }
    return shapes[pattern.removesuffix(".weight").split(".")[-1]]
