"""The tensors of a folder's safetensors files, whichever file they are in: names and shapes at once, values
when asked for.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from congling.core.errors import UserError
from congling.interop.hf.settings import read_json

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_TYPES = {"F64", "F32", "F16", "BF16"}
_LARGEST_INDEX = 2**25  # bytes; the index of a model of 10^5 tensors has 10^7
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth", "model.bin")


class StoredTensors:
    """Every tensor of a folder by its own name; ``pieces`` of the files are read when asked for.

    Raises:
        UserError: a file is missing, damaged, outside the folder or a pickle; a tensor is in two files or of
            a type no model has.
    """

    def __init__(self, folder: Path) -> None:
        self.files = _files(folder)
        self._slices: dict[str, Any] = {}
        self._open: list[Any] = []
        for file in self.files:
            opened = _opened(file)
            self._open.append(opened)  # its memory map lives as long as this object
            for name in opened.keys():  # noqa: SIM118 - not a dictionary
                if name in self._slices:
                    raise UserError("a tensor is stored twice", where=file, value=name)
                self._slices[name] = opened.get_slice(name)
                if (kind := self._slices[name].get_dtype()) not in _TYPES:
                    raise UserError("a tensor of a type no model has", where=file, value=f"{name}: {kind}")

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


def _files(folder: Path) -> list[Path]:
    """The safetensors files of a folder.

    Raises:
        UserError: there are none, or the index names a file outside the folder.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        pickled = next((name for name in _PICKLED if (folder / name).is_file()), None)
        if pickled is not None:
            raise UserError("pickled weights are not read, since unpickling runs code", where=folder,
                            value=pickled,
                            hint="convert the model to safetensors where you trust it")  # fmt: skip
        raise UserError("no model here: a file is missing", where=folder, value=WEIGHTS)
    path = folder / INDEX
    table = read_json(path, largest=_LARGEST_INDEX).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise UserError("the index has no weight_map", where=path)
    names = set(map(str, table.values()))
    for name in sorted(names):
        if Path(name).name != name or not name.endswith(".safetensors") or "\\" in name:
            raise UserError("the index names a file outside its folder", where=path, value=name)
        if not (folder / name).is_file():
            raise UserError("a part of the model is missing", where=folder, value=name)
    return [folder / name for name in sorted(names)]


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        with path.open("rb") as stream:
            pickled = stream.read(4).startswith(_PICKLES)  # asked last: a header's length may look like it
        if pickled:
            raise UserError("a pickle under another name; it is not read, since unpickling runs code",
                            where=path) from None  # fmt: skip
        raise UserError(f"damaged or no safetensors file: {error}", where=path,
                        hint="fetch the file again") from None  # fmt: skip
