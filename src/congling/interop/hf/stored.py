"""The tensors of a folder's files, whichever they are in: names and shapes at once, values when asked for.

Safetensors come first; of ``pytorch_model.bin`` the tensors are taken out without running it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from congling.core import files
from congling.core.errors import UserError
from congling.interop.hf.settings import read_json
from congling.interop.torch_archive import TorchArchive, tensors_in
from congling.interop.torch_pickle import StoredTensor
from congling.interop.torch_state import stripped

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_TYPES = {"F64", "F32", "F16", "BF16"}
_OF_LAYERS = _TYPES | {"I8", "U8", "I32", "I64"}
"""Types that layers in few bits have besides."""
_LARGEST_INDEX = 2**25  # bytes; the index of a model of 10^5 tensors has 10^7
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_OLD, _OLD_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
_OLD_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64"}


class StoredTensors:
    """Every tensor of a folder by its own name; ``pieces`` of the files are read when asked for.

    ``quantised`` folders have integers too.

    Raises:
        UserError: a file is missing, damaged, outside the folder or a pickle; a tensor is in two files or of
            a type no model has.
    """

    def __init__(self, folder: Path, *, quantised: bool = False) -> None:
        self.files = _files(folder)
        types = _OF_LAYERS if quantised else _TYPES
        self._slices: dict[str, Any] = {}
        self._open: list[Any] = []
        for file in self.files:
            opened = _opened(file)
            self._open.append(opened)  # its memory map lives as long as this object
            for name in opened.keys():  # noqa: SIM118 - not a dictionary
                if name in self._slices:
                    raise UserError("a tensor is stored twice", where=file, value=name)
                self._slices[name] = opened.get_slice(name)
                if (kind := self._slices[name].get_dtype()) not in types:
                    raise UserError("a tensor of a type no model has", where=file, value=f"{name}: {kind}")
        prefix = stripped(list(self._slices))
        self._slices = {name.removeprefix(prefix): piece for name, piece in self._slices.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._slices)

    def __len__(self) -> int:
        return len(self._slices)

    def __contains__(self, name: object) -> bool:
        return name in self._slices

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one tensor."""
        return tuple(self._slices[name].get_shape())

    def dtype(self, name: str) -> str:
        """Type of one tensor as safetensors names it: ``F32``, ``BF16`` …"""
        return self._slices[name].get_dtype()

    def read(self, name: str, dim: int = 0, rows: slice | None = None) -> Tensor:
        """One tensor, or some ``rows`` of it along ``dim``, as float32."""
        piece = self._slices[name]
        if rows is None:
            found = piece[:]
        else:
            found = piece[(*(slice(None),) * dim, rows)]
        return found.to(torch.float32)

    def raw(self, name: str) -> Tensor:
        """One tensor in the type it is stored in."""
        return self._slices[name][...]


class _Archive:
    """An archive of torch in the terms of safetensors."""

    def __init__(self, path: Path) -> None:
        self._archive = TorchArchive(path)
        self._tensors = tensors_in(self._archive.value)

    def keys(self) -> list[str]:
        return list(self._tensors)

    def get_slice(self, name: str) -> "_Slice":
        return _Slice(self._archive, self._tensors[name])


class _Slice:
    """One tensor of it."""

    def __init__(self, archive: TorchArchive, tensor: StoredTensor) -> None:
        self._archive, self._tensor = archive, tensor

    def get_dtype(self) -> str:
        return _OLD_TYPES.get(self._tensor.storage.type, self._tensor.storage.type)

    def get_shape(self) -> tuple[int, ...]:
        return self._tensor.shape

    def __getitem__(self, index: Any) -> Tensor:
        return self._archive.tensor(self._tensor)[index]


def _files(folder: Path) -> list[Path]:
    """The files of a folder that hold its weights.

    Raises:
        UserError: there are none, or the index names a file outside the folder.
    """
    for whole, index, suffix in ((WEIGHTS, INDEX, ".safetensors"), (_OLD, _OLD_INDEX, ".bin")):
        if (folder / whole).is_file():
            return [folder / whole]
        if (folder / index).is_file():
            return _parts(folder, folder / index, suffix)
    found = sorted(file.name for file in folder.iterdir() if file.suffix in (".safetensors", ".bin", ".pth"))
    hint = f"there are {', '.join(found[:4])}: rename the one that is meant" if found else None
    raise UserError("no model here: a file is missing", where=folder, value=WEIGHTS, hint=hint)


def _parts(folder: Path, path: Path, suffix: str) -> list[Path]:
    """The files that an index names."""
    table = read_json(path, largest=_LARGEST_INDEX).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise UserError("the index has no weight_map", where=path)
    names = set(map(str, table.values()))
    for name in sorted(names):
        if Path(name).name != name or not name.endswith(suffix) or "\\" in name:
            raise UserError("the index names a file outside its folder", where=path, value=name)
    if missing := [name for name in sorted(names) if not (folder / name).is_file()]:
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        raise UserError(
            f"{len(missing)} of {len(names)} parts of the model are missing",
            where=folder,
            value=", ".join(missing[:8]) + more,
            hint="fetch them again",
        )
    return [folder / name for name in sorted(names)]


def _opened(path: Path) -> Any:
    if path.suffix == ".bin":
        return _Archive(path)
    try:
        files.opened(path).close()
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        with files.opened(path) as stream:
            pickled = stream.read(4).startswith(_PICKLES)  # asked last: a header's length may look like it
        if pickled:
            raise UserError(
                "a pickle under another name; it is not read, since unpickling runs code", where=path
            ) from None
        raise UserError(
            f"damaged or no safetensors file: {error}", where=path, hint="fetch the file again"
        ) from None
