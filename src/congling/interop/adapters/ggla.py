"""Adapters of llama.cpp's former ``finetune``: the format it called ggla, version 1.

::

    algg │ u32 1 │ i32 r │ i32 alpha │ records to the end of the file
    record: u32 dimensions │ u32 length of the name │ u32 type │ u32 sizes │ name │ zeros to 32 │ values

Both factors lie with the rank last: ``NAME.weight.loraA`` (inputs, r), ``NAME.weight.loraB`` (outputs, r); a
norm's gain counts as a matrix of one row. The old loader added ``strength · alpha / r · B @ Aᵀ`` with the
header's r for every tensor, whatever its own rank. Names and row order are those of GGUF.
"""

# r rank, W width

import math
import mmap
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from congling.core import files
from congling.core.errors import UserError
from congling.core.output import replacing
from congling.interop.adapters.fitting import LARGEST_RANK, checked, common_scale, is_gain, refuse_magnitudes
from congling.interop.gguf.arrangement import to_half_split, to_interleaved, turned_heads
from congling.interop.gguf.names import gguf_name, our_name
from congling.interop.gguf_architecture import gguf_architecture
from congling.model.config import ModelConfig
from congling.transform.adapter import Adapter, Factors

MAGIC = b"algg"
_HEADER, _RECORD = struct.Struct("<4sIii"), struct.Struct("<III")
_ALIGNMENT, _LONGEST_NAME = 32, 256
_TYPES = {0: np.dtype("<f4"), 1: np.dtype("<f2")}
_SUFFIXES = (".loraA", ".loraB")
_ORDER = (
    "attention_norm", "attention.query", "attention.key", "attention.value", "attention.output",
    "mlp_norm", "mlp.gate", "mlp.down", "mlp.up",
)  # fmt: skip
_FIRST = ("embedding.weight", "norm.weight", "head.weight")


def read(path: Path | str, config: ModelConfig, architecture: str | None = None) -> Adapter:
    """Open an adapter for a model of ``config``; ``architecture`` is GGUF's name of the base's.

    Raises:
        UserError: damaged, made for another base, or with parts that are no factors.
    """
    path = Path(path)
    architecture = architecture or gguf_architecture(config)
    raw = _mapped(path)
    magic, version, rank, alpha = _HEADER.unpack_from(raw) if len(raw) >= _HEADER.size else (b"", 0, 0, 0)
    if magic != MAGIC or version != 1 or not 0 < rank <= LARGEST_RANK:
        raise UserError(
            "this is no ggla adapter of version 1", where=path, value=(magic, version, rank, alpha)
        )
    found = dict(_records(raw, path))
    factors: dict[str, Factors] = {}
    for stem in dict.fromkeys(name[: -len(_SUFFIXES[0])] for name in found):
        if any(stem + suffix not in found for suffix in _SUFFIXES):
            raise UserError("one of two factors is missing", where=path, value=stem)
        ours = our_name(stem, architecture)
        if ours is None:
            raise UserError(
                "the adapter changes a tensor that this model does not have", where=path, value=stem
            )
        a, b = (found[stem + suffix] for suffix in _SUFFIXES)
        factors[ours] = Factors(*_ours(ours, a, b, config, architecture, path), alpha / rank)
    facts = {"name": path.stem, "architecture": architecture, "format": "ggla", "rank": rank, "alpha": alpha}
    return checked(Adapter(factors, facts), config, path)


def write(
    adapter: Adapter,
    config: ModelConfig,
    path: Path | str,
    architecture: str | None = None,
    *,
    header: tuple[int, int] | None = None,
    overwrite: bool = False,
) -> list[str]:
    """Write an adapter in the order of the old program; returns notes (there are none).

    ``header`` gives r and alpha as they stand there and leaves the factors as they are, whatever their scale;
    by default they are chosen so that the file acts as the adapter does.

    Raises:
        UserError: the adapter does not fit the model, or the format has no name for a tensor.
    """
    checked(adapter, config, "the adapter")
    refuse_magnitudes(adapter, "a ggla adapter")
    architecture = architecture or gguf_architecture(config)
    rank, alpha = header or _header(adapter.factors)
    with replacing(Path(path), overwrite=overwrite) as temporary, temporary.open("wb") as stream:
        stream.write(_HEADER.pack(MAGIC, 1, rank, alpha))
        for name in sorted(adapter.factors, key=_place):
            part = adapter.factors[name]
            factor = 1.0 if header else part.scale * rank / alpha
            try:
                stem = gguf_name(name, architecture)
            except KeyError:
                raise UserError("a ggla adapter has no name for this tensor", value=name) from None
            for suffix, values in zip(
                _SUFFIXES, _theirs(name, part.a, part.b * factor, config, architecture), strict=True
            ):
                stream.write(_record(stem + suffix, values, stream.tell()))
    return []


def _mapped(path: Path) -> bytes | mmap.mmap:
    try:
        with files.opened(path) as stream:
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        raise UserError(f"the file cannot be read ({why})", value=str(path)) from None


def _records(raw: bytes | mmap.mmap, path: Path) -> Iterator[tuple[str, Tensor]]:
    """Name and values (n, r) of every record, checked against the length of the file before they are read."""
    at, seen = _HEADER.size, set[str]()
    while at < len(raw):
        start, left = at, len(raw) - at
        dimensions, length, kind = _RECORD.unpack_from(raw, at) if left >= _RECORD.size else (0, 0, 0)
        at += _RECORD.size + 4 * dimensions + length
        if dimensions not in (1, 2) or not 0 < length <= _LONGEST_NAME or kind not in _TYPES or at > len(raw):
            value = {"dimensions": dimensions, "name": length, "type": kind}
            raise UserError(f"a damaged record at byte {start}", where=path, value=value)
        sizes = struct.unpack_from(f"<{dimensions}I", raw, start + _RECORD.size)
        name = raw[at - length : at].decode("utf-8", "replace")
        at += -at % _ALIGNMENT
        count, dtype = math.prod(sizes), _TYPES[kind]
        if not 0 < sizes[0] <= LARGEST_RANK or not count or at + count * dtype.itemsize > len(raw):
            what = f"a tensor at byte {start} is empty, or longer than the file"
            raise UserError(what, where=path, value=f"{name} {sizes}")
        if name in seen or not name.endswith(_SUFFIXES):
            raise UserError("a tensor that is there twice, or no factor", where=path, value=name)
        seen.add(name)
        values = np.frombuffer(raw, dtype, count, at).astype(np.float32)
        at += count * dtype.itemsize
        yield name, torch.from_numpy(values.reshape(-1, sizes[0]))  # newer files drop a last size of 1


def _ours(
    name: str, a: Tensor, b: Tensor, config: ModelConfig, architecture: str, where: Path
) -> tuple[Tensor, Tensor]:
    """Our factors of (inputs, r) and (outputs, r); a gain is one row there and one column here."""
    if is_gain(name):
        return b.T.contiguous(), a
    heads = turned_heads(name, config, architecture)
    if heads and len(b) % (2 * heads.number):
        raise UserError("the adapter was made for another base", where=where, value=f"{name}: {len(b)} rows")
    return a.T.contiguous(), to_half_split(b, heads) if heads else b


def _theirs(name: str, a: Tensor, b: Tensor, config: ModelConfig, architecture: str) -> tuple[Tensor, Tensor]:
    if is_gain(name):
        return b, a.T
    heads = turned_heads(name, config, architecture)
    return a.T, to_interleaved(b, heads) if heads else b


def _header(factors: Mapping[str, Factors]) -> tuple[int, int]:
    """r and a whole alpha that give the scale of all tensors; alpha = r where there is none."""
    rank = max(part.rank for part in factors.values())
    alpha = common_scale(factors, rank)
    exact = alpha is not None and alpha == int(alpha) and 0 < abs(alpha) < 2**31
    return rank, int(alpha) if exact and alpha is not None else rank


def _record(name: str, values: Tensor, offset: int) -> bytes:
    array = np.ascontiguousarray(values.detach().to("cpu", torch.float32).numpy(), dtype="<f4")
    encoded = name.encode()
    head = _RECORD.pack(2, len(encoded), 0) + struct.pack("<2I", array.shape[1], array.shape[0]) + encoded
    return head + bytes(-(offset + len(head)) % _ALIGNMENT) + array.tobytes()


def _place(name: str) -> tuple[int, int, str]:
    """Sort key: the order of the old program."""
    if name in _FIRST:
        return -1, _FIRST.index(name), name
    _, layer, part = name.removesuffix(".weight").split(".", 2)
    return int(layer), _ORDER.index(part) if part in _ORDER else len(_ORDER), name
