"""The linear layers of a quantised folder as layers of ours, each made when it is asked for."""

# O outputs

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from congling.core.errors import UserError
from congling.interop.hf.quantised.tensors import QuantisedTensors
from congling.interop.hf.weights import FolderWeights
from congling.quant.coded import CodedLinear
from congling.quant.frozen import FrozenLinear
from congling.quant.grid import Grid
from congling.quant.int8 import CT_STEPS, Int8Linear

_WEIGHT = ".weight"


def layer_of(
    tensors: QuantisedTensors, layer: str, order: Tensor | slice = slice(None), bias: Tensor | None = None
) -> FrozenLinear:
    """One layer of a folder, by its name there, with its rows in an order.

    Raises:
        UserError: as ``QuantisedTensors.coded``.
    """
    scheme = tensors.scheme
    if scheme.format in ("gptq", "awq", "pack-quantized"):
        codes, grid = tensors.coded(layer)
        zeros = None if grid.zeros is None else grid.zeros[order]
        return CodedLinear(codes[order], Grid(grid.scales[order], zeros, grid.bits, grid.group_size), bias)
    codes, most = tensors.integers(layer)
    theirs: Any = {"whole_batch": True} if scheme.format == "bitsandbytes" else {"token_steps": CT_STEPS}
    return Int8Linear(codes[order], most[order], bias, threshold=scheme.threshold, **theirs)


class FolderLayers(Mapping[str, FrozenLinear]):
    """Layers by the name of our module; what is stored as one matrix there is several here.

    The output matrix and stacks of experts are not among them: they are used as the floats they stand for.
    """

    def __init__(
        self,
        tensors: QuantisedTensors,
        weights: FolderWeights,
        changed: Mapping[str, Callable[[Tensor], Tensor]],
    ) -> None:
        """Raises UserError: a class whose matrices lie the other way (GPT-2)."""
        self._tensors, self._weights, self._changed = tensors, weights, changed
        self._names = [name.removesuffix(_WEIGHT) for name in weights if self._is_layer(name)]

    def __getitem__(self, name: str) -> FrozenLinear:
        weight, bias = name + _WEIGHT, self._weights.get(f"{name}.bias")
        source = self._weights.source(weight)
        layer = source.name.removesuffix(_WEIGHT)
        order = torch.arange(self._tensors.layers[layer][0])[source.rows]
        if weight in self._changed:  # of matrices another order of rows, and nothing else
            order = self._changed[weight](order)
        return layer_of(self._tensors, layer, order, bias)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def _is_layer(self, name: str) -> bool:
        source = self._weights.source(name)
        if not name.startswith("blocks.") or source.one_expert or not name.endswith(_WEIGHT):
            return False
        if source.name.removesuffix(_WEIGHT) not in self._tensors.layers:
            return False
        if source.transposed:
            raise UserError(
                "quantised layers of a class that stores matrices the other way are not read",
                where=self._tensors.files[0].parent,
                value=source.name,
                hint="take the original model, or its GGUF file",
            )
        return True
