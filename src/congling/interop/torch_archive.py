"""Tensors of a file that torch saved (``.pt``, ``.pth``, ``.bin``): a zip with an index and raw values.

::

    NAME/data.pkl     what lies where: read by ``torch_pickle``, which runs nothing
    NAME/data/0 …     the values of each storage, little-endian, never compressed
    NAME/byteorder    "little", where it is there

Values are taken from the mapped file when they are asked for. Sizes are believed only as far as the archive
bears them out: an entry lies within the file, is as long as its storage, and is not compressed.
"""

import mmap
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from congling.core import files
from congling.core.errors import UserError
from congling.interop.torch_pickle import Refused, Storage, StoredTensor, parsed

_LARGEST_INDEX = 2**26  # bytes; 10^5 tensors take 10^7
_MOST_ENTRIES = 2**17
_LOCAL = struct.Struct("<4s22xHH")  # signature, then the lengths of name and extra field
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_RESAVE = "open it in the program that made it, and save the tensors as safetensors"
_FLOATING = {"float32", "float16", "bfloat16", "float64"}


class TorchArchive:
    """A saved value whose tensors are not read yet."""

    def __init__(self, path: Path) -> None:
        """Check the archive and read its index.

        Raises:
            UserError: no such archive, damaged, compressed, or with more in it than plain values and tensors.
        """
        self.path = path
        self._stream = _opened(path)
        self._map = mmap.mmap(self._stream.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            with zipfile.ZipFile(self._stream) as archive:
                self._entries = _checked(archive, path)
                index = next((name for name in self._entries if name.endswith("/data.pkl")), "data.pkl")
                self._root = index.removesuffix("data.pkl")
                self.value: Any = parsed(self._bytes(index, _LARGEST_INDEX))
                """What was saved: dictionaries, lists, plain values and ``StoredTensor``."""
        except Refused as error:
            what = f"this checkpoint holds more than tensors and plain values: {error}"
            raise UserError(what, where=path, hint=f"nothing of it was run; {_RESAVE}") from None
        except (
            zipfile.BadZipFile,
            NotImplementedError,
            RuntimeError,
            LookupError,
            ValueError,
            OSError,
        ) as error:
            raise UserError(f"damaged or no archive of torch ({error})", where=path) from None
        if self._bytes("byteorder", 16, missing=b"little") != b"little":
            raise UserError("saved on a big-endian machine", where=path, hint=_RESAVE)

    def tensor(self, stored: StoredTensor) -> Tensor:
        """One tensor, as float32.

        Raises:
            UserError: its storage is not there, of another length, or holds no real numbers.
        """
        storage = stored.storage
        if storage.type not in _FLOATING:
            raise UserError("a tensor of a type no model has", where=self.path, value=storage.type)
        dtype = getattr(torch, storage.type)
        start, size = self._storage(storage, dtype.itemsize)
        if not size:
            return torch.zeros(stored.shape)
        values = bytearray(memoryview(self._map)[start : start + size])  # torch wants memory of its own
        whole = torch.frombuffer(values, dtype=dtype)
        return whole.as_strided(stored.shape, stored.stride, stored.offset).to(torch.float32).contiguous()

    def _storage(self, storage: Storage, width: int) -> tuple[int, int]:
        """Where its values begin, and their bytes."""
        entry = self._entries.get(f"{self._root}data/{storage.key}")
        if entry is None or entry.file_size != storage.count * width:
            size = None if entry is None else entry.file_size
            what = f"storage {storage.key} should have {storage.count * width} bytes"
            raise UserError(what, where=self.path, value=size, hint="the file is damaged")
        return self._begin(entry), entry.file_size

    def _begin(self, entry: zipfile.ZipInfo) -> int:
        """Where an entry's bytes begin, its own header read."""
        at = entry.header_offset
        signature, name, extra = (
            _LOCAL.unpack_from(self._map, at) if 0 <= at <= len(self._map) - 30 else (b"", 0, 0)
        )
        begin = at + 30 + name + extra
        if signature != b"PK\x03\x04" or begin + entry.file_size > len(self._map):
            raise UserError("an entry lies beyond the end of the file", where=self.path, value=entry.filename)
        return begin

    def _bytes(self, name: str, most: int, missing: bytes | None = None) -> bytes:
        name = name if name in self._entries else f"{self._root}{name}"
        entry = self._entries.get(name)
        if entry is None and missing is not None:
            return missing
        if entry is None:
            raise Refused("there is no index (data.pkl)")
        if entry.file_size > most:
            raise UserError("an index too large for any model", where=self.path, value=entry.file_size)
        begin = self._begin(entry)
        return self._map[begin : begin + entry.file_size]


def tensors_in(value: Any) -> dict[str, StoredTensor]:
    """The tensors of a state dict by name; whatever is no tensor there is left out."""
    if not isinstance(value, Mapping):
        return {}
    return {
        name: one for name, one in value.items() if isinstance(name, str) and isinstance(one, StoredTensor)
    }


def _opened(path: Path) -> Any:
    try:
        stream = files.opened(path)
        head = stream.read(len(_LEGACY))
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", value=str(path)) from None
    if head == _LEGACY:
        what = "a checkpoint in the form of torch before 1.6, which is not read"
        raise UserError(what, where=path, hint=f"torch.save it again with a later torch, or {_RESAVE}")
    if head[:4] != b"PK\x03\x04":
        raise UserError("this is no checkpoint that torch saved", value=str(path), hint=_RESAVE)
    return stream


def _checked(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The entries by name, if none is compressed, encrypted, there twice or longer than the file."""
    found: dict[str, zipfile.ZipInfo] = {}
    length = path.stat().st_size
    for entry in _entries(archive, path):
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise UserError(
                "an entry is compressed, which torch never does", where=path, value=entry.filename
            )
        if entry.flag_bits & 1 or entry.filename in found or entry.file_size > length:
            raise UserError(
                "an entry is encrypted, there twice or too long", where=path, value=entry.filename
            )
        found[entry.filename] = entry
    if sum(entry.file_size for entry in found.values()) > length:
        raise UserError(
            "the entries overlap: together they are longer than the file", where=path, value=length
        )
    return found


def _entries(archive: zipfile.ZipFile, path: Path) -> Iterator[zipfile.ZipInfo]:
    listed = archive.infolist()
    if len(listed) > _MOST_ENTRIES:
        raise UserError("more entries than any model has tensors", where=path, value=len(listed))
    yield from listed
