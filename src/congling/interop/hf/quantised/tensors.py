"""The tensors of a quantised folder as if its matrices were float32, and the layers as they are stored.

::

    X.qweight, X.qzeros, X.scales, X.g_idx ──▶ X.weight, float32, made when asked for
                                           └─▶ X: codes and grid
"""

# O outputs, I inputs, G groups of a row

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from congling.core.errors import UserError
from congling.interop.hf.quantised import matrices
from congling.interop.hf.quantised.config import scheme_of
from congling.interop.hf.quantised.matrices import CODES
from congling.interop.hf.quantised.scheme import Scheme
from congling.interop.hf.quantised.words import WORD
from congling.interop.hf.settings import CONFIG, QUANTISED, read_json
from congling.interop.hf.stored import StoredTensors
from congling.quant.grid import Grid

_OPTIONAL = {"g_idx", "weight_format"}
_SCALES = {"scales", "weight_scale", "SCB"}
_FLOATS = {"F64", "F32", "F16", "BF16"}
_TYPES = {torch.int32: "I32", torch.int64: "I64", torch.int8: "I8", torch.uint8: "U8"}
_INTEGERS = {"int-quantized", "bitsandbytes"}


class QuantisedTensors:
    """What ``StoredTensors`` gives, with ``X.weight`` in place of the parts of each layer X.

    Raises:
        UserError: a part of a layer is missing, of another shape or type than the others make it, or the
            folder has no layer of the kind it says.
    """

    def __init__(self, stored: StoredTensors, scheme: Scheme) -> None:
        self._stored, self.scheme, self.files = stored, scheme, stored.files
        self._where = stored.files[0].parent
        self.layers = {layer: self._shape(layer, name) for layer, name in self._found()}
        """(O, I) of each layer, by its name there."""
        if not self.layers:
            raise UserError(
                f"the folder says that its layers are {scheme.format}, and holds none", where=self._where
            )
        self._orders = self._group_orders() if scheme.format == "gptq" else {}
        parts = {f"{layer}.{part}" for layer in self.layers for part in self._parts(layer)}
        floats = [name for name in stored if name not in parts]
        for name in floats:
            if stored.dtype(name) not in _FLOATS:
                what = "a tensor that is no part of a layer and no floats"
                raise UserError(what, where=self._where, value=f"{name}: {stored.dtype(name)}")
        self._names = dict.fromkeys([*floats, *(f"{layer}.weight" for layer in self.layers)])
        self._last: tuple[str, Tensor, Grid] | None = None

    @classmethod
    def of_folder(cls, folder: Path) -> "QuantisedTensors":
        """Those of a folder that says that its layers are in few bits.

        Raises:
            UserError: it does not, is damaged, or as above.
        """
        where = folder / CONFIG
        scheme = scheme_of(read_json(where).get(QUANTISED), where)
        return cls(StoredTensors(folder, quantised=True), scheme)

    @property
    def turned(self) -> bool:
        """Whether columns of a layer are in another order than their groups, as no layer here has them."""
        return bool(self._orders)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one tensor."""
        layer = name.removesuffix(".weight")
        return self.layers[layer] if layer in self.layers else self._stored.shape(name)

    def dtype(self, name: str) -> str:
        """Type of one tensor; ``F32`` of what is made here."""
        return "F32" if name.removesuffix(".weight") in self.layers else self._stored.dtype(name)

    def read(self, name: str, dim: int = 0, rows: slice | None = None) -> Tensor:
        """One tensor, or some ``rows`` of it along ``dim``, as float32."""
        layer = name.removesuffix(".weight")
        if layer not in self.layers:
            return self._stored.read(name, dim, rows)
        if self.scheme.format in _INTEGERS:
            codes, scales = self.integers(layer)
            whole = codes * (scales / 127)[:, None]
        else:
            codes, grid = self.coded(layer)
            whole = grid.value(codes)
            if layer in self._orders:
                whole = whole[:, self._orders[layer].argsort()]
        return whole if rows is None else whole[(*(slice(None),) * dim, rows)]

    def coded(self, layer: str) -> tuple[Tensor, Grid]:
        """Codes (O, I) uint8 of a layer, and their grid; columns in the order of their groups.

        Raises:
            UserError: scales that are not finite, or zeros that are not those of the format.
        """
        if self._last is not None and self._last[0] == layer:
            return self._last[1:]
        parts = {part: self._stored.raw(f"{layer}.{part}") for part in self._parts(layer)}
        try:
            codes, grid = matrices.coded(self.scheme, parts, *self.layers[layer])
        except UserError as error:
            raise UserError(error.what, where=f"{self._where}: {layer}", hint=error.hint) from None
        codes = codes[:, self._orders[layer]] if layer in self._orders else codes
        self._sound(layer, grid.scales)
        self._last = (layer, codes, grid)
        return codes, grid

    def integers(self, layer: str) -> tuple[Tensor, Tensor]:
        """Codes (O, I) int8 of a layer, and the largest weight of each row (O,) float32.

        Raises:
            UserError: scales that are not finite.
        """
        codes = self._stored.raw(f"{layer}.weight")
        if self.scheme.format == "bitsandbytes":
            most = self._stored.raw(f"{layer}.SCB").float()
        else:
            most = self._stored.raw(f"{layer}.weight_scale").float()[:, 0] * 127
        self._sound(layer, most)
        return codes, most

    def _sound(self, layer: str, scales: Tensor) -> None:
        if not bool(torch.isfinite(scales).all()):  # AutoRound has some below 0, to use the lowest code
            raise UserError("scales of a quantised layer are finite", where=self._where, value=layer)

    def _group_orders(self) -> dict[str, Tensor]:
        """Columns in the order of their groups, of layers where that is another order than theirs."""
        found: dict[str, Tensor] = {}
        for layer, (_, inputs) in self.layers.items():
            if (name := f"{layer}.g_idx") not in self._stored:
                continue
            try:
                order = matrices.group_order(self._stored.raw(name), self.scheme.group_of(inputs))
            except UserError as error:
                raise UserError(error.what, where=f"{self._where}: {layer}", hint=error.hint) from None
            found |= {} if order is None else {layer: order}
        return found

    def _found(self) -> Iterator[tuple[str, str]]:
        """Each layer's name and that of its codes."""
        suffix = "." + CODES[self.scheme.format]
        for name in self._stored:
            if name.endswith(suffix) and self._stored.dtype(name) not in _FLOATS:
                yield name.removesuffix(suffix), name

    def _parts(self, layer: str) -> list[str]:
        """The parts of a layer that are there."""
        return [part for part in self._layout(layer) if f"{layer}.{part}" in self._stored]

    def _layout(self, layer: str) -> matrices.Layout:
        return matrices.layout(self.scheme, *self.layers[layer])

    def _shape(self, layer: str, name: str) -> tuple[int, int]:
        """(O, I) of a layer, all its parts compared."""
        shape, bits, scheme = self._stored.shape(name), self.scheme.bits, self.scheme
        if len(shape) != 2 or 0 in shape:
            raise UserError("a layer's codes are a matrix", where=self._where, value=f"{name}: {shape}")
        match scheme.format:
            case "gptq":
                outputs, inputs = shape[1], shape[0] * WORD // bits
            case "awq":
                outputs, inputs = shape[1] * WORD // bits, shape[0]
            case "pack-quantized":
                outputs, inputs = self._told_shape(layer)
            case _:
                outputs, inputs = shape
        if inputs < 1 or inputs % scheme.group_of(inputs):
            what = f"a group of {scheme.group_size} does not divide the {inputs} inputs of a layer"
            raise UserError(what, where=self._where, value=layer)
        for part, (wanted, kind) in matrices.layout(scheme, outputs, inputs).items():
            self._compare(f"{layer}.{part}", part, wanted, kind)
        return outputs, inputs

    def _compare(self, name: str, part: str, wanted: tuple[int, ...], kind: torch.dtype) -> None:
        if name not in self._stored:
            if part in _OPTIONAL:
                return
            raise UserError("a part of a quantised layer is missing", where=self._where, value=name)
        allowed = _FLOATS if part in _SCALES else {_TYPES[kind]}
        found, shape = self._stored.dtype(name), self._stored.shape(name)
        if found not in allowed or (shape != wanted and (part != "weight_format" or math.prod(shape) != 1)):
            what = f"this part of a quantised layer should be {'floats' if part in _SCALES else _TYPES[kind]}"
            value = f"{name}: {found} {shape}"
            raise UserError(f"{what} {wanted}", where=self._where, value=value)

    def _told_shape(self, layer: str) -> tuple[int, int]:
        """What ``weight_shape`` says."""
        name = f"{layer}.weight_shape"
        if name not in self._stored or self._stored.shape(name) != (2,):
            raise UserError("a part of a quantised layer is missing", where=self._where, value=name)
        outputs, inputs = (int(value) for value in self._stored.raw(name))
        if not (0 < outputs < 2**31 and 0 < inputs < 2**31):
            raise UserError(
                "a shape that no matrix has", where=self._where, value=f"{name}: {outputs}, {inputs}"
            )
        return outputs, inputs
