"""The linear layers of a quantised folder as layers of ours, each made when it is asked for."""

# O outputs

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from congling.core.errors import UserError
from congling.interop.hf.quantised.tensors import QuantisedTensors
from congling.interop.hf.weights import FolderWeights
from congling.quant.coded import CodedLinear
from congling.quant.frozen import FrozenLinear
from congling.quant.grid import Grid
from congling.quant.int8 import Int8Linear

_WEIGHT = ".weight"


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
        scheme = self._tensors.scheme
        if scheme.format in ("gptq", "awq", "pack-quantized"):
            codes, grid = self._tensors.coded(layer)
            zeros = None if grid.zeros is None else grid.zeros[order]
            return CodedLinear(
                codes[order], Grid(grid.scales[order], zeros, grid.bits, grid.group_size), bias
            )
        codes, most = self._tensors.integers(layer)
        as_there = scheme.format == "bitsandbytes"
        return Int8Linear(codes[order], most[order], bias, threshold=scheme.threshold, whole_batch=as_there)

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
