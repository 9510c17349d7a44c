"""A model with layers of few bits on the disk: a checkpoint's files, and ``quantization.json`` beside them.

::

    model.json            the configuration, as ever
    model.safetensors     what stayed in floats under its own name; of each layer in few bits its parts:
                          blocks.0.mlp.up.codes, .scales, .zeros, .bias
    quantization.json     what each of these layers is: kind, bits, group size; and how it was made
"""

# O outputs, I inputs, E experts

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from safetensors.torch import save_file
from torch import Tensor

from congling.core import files
from congling.core.errors import UserError
from congling.core.text import write_text
from congling.model.checkpoint import (
    CONFIG,
    WEIGHTS,
    check_precisions,
    compare_shapes,
    expected_shapes,
    load_config,
    open_safetensors,
)
from congling.model.config import ModelConfig
from congling.model.lazy import LazyTensors
from congling.model.transformer import Transformer
from congling.quant.coded import CodedLinear
from congling.quant.experts import separate_experts
from congling.quant.frozen import FrozenLinear, FrozenMatrix
from congling.quant.int8 import Int8Linear
from congling.quant.onebit import OneBitLinear

DESCRIPTION = "quantization.json"
_STACKED = ".mlp.experts."


class StoredLinear(Protocol):
    """A layer in few bits that can be written and read."""

    def stored(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What it is, as JSON values, and its parts."""
        ...

    @classmethod
    def restored(
        cls, facts: Mapping[str, Any], part: Callable[[str], Tensor | None], shape: tuple[int, int]
    ) -> Self:
        """The layer (O, I) again; parts are asked for by name.

        Raises:
            UserError: parts are missing, of another shape, or hold what no quantiser makes.
        """
        ...


KINDS: dict[str, type[StoredLinear]] = {"coded": CodedLinear, "int8": Int8Linear, "onebit": OneBitLinear}
"""Layers by what ``quantization.json`` calls them."""


def is_quantised(directory: Path | str) -> bool:
    """Whether a directory holds a model with layers of few bits."""
    return files.exists(Path(directory) / DESCRIPTION)


def save_quantised(model: Transformer, directory: Path | str, made: Mapping[str, Any]) -> None:
    """Write the files into an existing directory; ``made`` says how, in small JSON values."""
    directory = Path(directory)
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in model.state_dict().items()}
    layers: dict[str, Any] = {}
    names = {kind: name for name, kind in KINDS.items()}
    for place, module in model.named_modules():
        if isinstance(module, FrozenLinear):
            layer: Any = module
            facts, parts = layer.stored()
            layers[place] = {"kind": names[type(layer)], **facts}
            tensors |= {f"{place}.{name}": part.contiguous().cpu() for name, part in parts.items()}
    save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})
    described = json.dumps(model.config.model_dump(mode="json"), ensure_ascii=False, indent=1)
    write_text(directory / CONFIG, described + "\n")
    text = json.dumps({**made, "layers": layers}, ensure_ascii=False, indent=1)
    write_text(directory / DESCRIPTION, text + "\n")


class _Opened:
    """The files of a quantised model, checked against its configuration before anything is allocated."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / WEIGHTS
        self.config = load_config(directory)
        self.layers = _layers(directory / DESCRIPTION)
        stored = open_safetensors(self.path)
        self.get = stored.get_tensor
        found = {name: stored.get_slice(name) for name in stored.keys()}  # noqa: SIM118 - not a dictionary
        self.expected = expected_shapes(self.config, len(found), directory / CONFIG)
        self.shapes = {place: self._shape(place, directory / DESCRIPTION) for place in self.layers}
        for name in [name for name in self.expected if _STACKED in name]:
            self._require_all(name, directory / DESCRIPTION)
        self.parts = {name for name in found if name.rpartition(".")[0] in self.layers}
        self.plain = {
            name: shape
            for name, shape in self.expected.items()
            if name.rpartition(".")[0] not in self.layers and _STACKED not in name
        }
        for name in self.parts:  # no larger than the matrix it stands for
            size = 1
            for length in found[name].get_shape():
                size *= length
            outputs, inputs = self.shapes[name.rpartition(".")[0]]
            if size > outputs * inputs + outputs:
                raise UserError("a part of a layer is larger than the layer", where=self.path, value=name)
        rest = {name: piece for name, piece in found.items() if name not in self.parts}
        compare_shapes(
            self.plain, {name: tuple(piece.get_shape()) for name, piece in rest.items()}, self.path
        )
        check_precisions(rest, self.path)

    def layer(self, place: str) -> FrozenLinear:
        """One layer in few bits."""
        facts = self.layers[place]

        def part(name: str) -> Tensor | None:
            full = f"{place}.{name}"
            return self.get(full) if full in self.parts else None

        try:
            found: Any = KINDS[facts["kind"]].restored(facts, part, self.shapes[place])
        except UserError as error:
            raise UserError(f"{place}: {error.what}", where=self.path, value=error.value) from None
        except (RuntimeError, TypeError, ValueError, OverflowError, ZeroDivisionError):
            what = f"{place}: its parts do not fit each other"
            raise UserError(what, where=self.path, hint="quantise the model again") from None
        bias = f"{place}.bias" in self.expected
        if bias != (found.bias is not None) or (found.out_features, found.in_features) != self.shapes[place]:
            raise UserError(f"{place}: a layer of another shape is needed", where=self.path)
        return found

    def dense(self, name: str) -> Tensor:
        """A tensor of the model in floats, by the name it has there."""
        if name in self.plain:
            return self.get(name)
        if _STACKED in name:
            return torch.stack([self.matrix(f"{name}.{e}") for e in range(self.expected[name][0])])
        place, _, kind = name.rpartition(".")
        return self.matrix(place) if kind == "weight" else self.get(name)

    def matrix(self, place: str) -> Tensor:
        """The weights of a layer in few bits, which it multiplies with and nothing else.

        Raises:
            UserError: as ``layer``; or a layer norm is part of it.
        """
        layer = self.layer(place)
        if isinstance(layer, OneBitLinear) and layer.normalised:
            what = "one-bit layers with layer norms are no matrices, and other programs know nothing else"
            raise UserError(what, where=self.path, hint="train in one bit with quantization.layer_norm=false")
        return layer.dense()

    def _shape(self, place: str, where: Path) -> tuple[int, int]:
        """(O, I) of a layer by the configuration."""
        stacked, _, expert = place.rpartition(".")
        shape = self.expected.get(f"{place}.weight", ())
        if _STACKED in place and expert.isdecimal() and expert.isascii() and len(expert) < 9:
            whole = self.expected.get(stacked, (0,))
            shape = whole[1:] if int(expert) < whole[0] else ()
        if len(shape) != 2 or not place.startswith("blocks."):
            raise UserError("the model has no such layer to be in few bits", where=where, value=place)
        return shape[0], shape[1]

    def _require_all(self, name: str, where: Path) -> None:
        missing = [e for e in range(min(self.expected[name][0], 2**16)) if f"{name}.{e}" not in self.layers]
        if missing:
            raise UserError("an expert is missing here", where=where, value=f"{name}.{missing[0]}")


def load_quantised(directory: Path | str) -> Transformer:
    """The model with its layers in few bits, frozen and in evaluation mode.

    Raises:
        UserError: a file is missing, damaged, or does not fit the configuration.
    """
    opened = _Opened(Path(directory))
    model = Transformer(opened.config)
    separate_experts(model)
    for place in opened.layers:
        model.set_submodule(place, opened.layer(place))
    model.load_state_dict({name: opened.get(name) for name in opened.plain})
    return model.requires_grad_(False).eval()


def open_dense(directory: Path | str) -> tuple[ModelConfig, LazyTensors]:
    """Configuration and weights in floats, made one by one: what a model without quantised layers holds.

    Raises:
        UserError: as ``load_quantised``.
    """
    opened = _Opened(Path(directory))
    return opened.config, LazyTensors(opened.expected, opened.dense)


def dense_state(model: Transformer) -> LazyTensors:
    """The weights of a model in memory in floats, under a dense one's names, each made when asked for."""
    state = model.state_dict()

    def make(name: str) -> Tensor:
        if name in state:
            return state[name]
        place, _, kind = name.rpartition(".")
        if _STACKED in name:
            return torch.stack([_weight(model.get_submodule(f"{name}.{e}")) for e in range(shapes[name][0])])
        layer: Any = model.get_submodule(place)
        return layer.dense() if kind == "weight" else layer.bias

    shapes = expected_shapes(model.config, model.config.num_hidden_layers, Path("model"))
    return LazyTensors(shapes, make)


def _weight(layer: Any) -> Tensor:
    return layer.dense() if isinstance(layer, FrozenMatrix) else layer.weight


def open_layers(directory: Path | str) -> Mapping[str, FrozenLinear]:
    """The layers in few bits, each made when it is asked for, by the name of their module.

    Raises:
        UserError: as ``load_quantised``.
    """
    return _Layers(_Opened(Path(directory)))


class _Layers(Mapping[str, FrozenLinear]):
    def __init__(self, opened: _Opened) -> None:
        self._opened = opened

    def __getitem__(self, place: str) -> FrozenLinear:
        return self._opened.layer(place)

    def __iter__(self) -> Iterator[str]:
        return iter(self._opened.layers)

    def __len__(self) -> int:
        return len(self._opened.layers)


def description(directory: Path | str) -> dict[str, Any]:
    """What ``quantization.json`` says.

    Raises:
        UserError: it cannot be read.
    """
    path = Path(directory) / DESCRIPTION
    try:
        found: Any = json.loads(files.text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot be read as JSON ({type(error).__name__})", where=path) from None
    if not isinstance(found, dict):
        raise UserError("a quantised model is described by an object", where=path)
    return found


def _layers(path: Path) -> dict[str, dict[str, Any]]:
    layers = description(path.parent).get("layers")
    if not isinstance(layers, dict) or not all(isinstance(one, dict) for one in layers.values()):
        raise UserError("there is no table of layers", where=path)
    for place, facts in layers.items():
        if facts.get("kind") not in KINDS:
            what = f"{place}: no such kind of layer"
            hint = f"known: {', '.join(KINDS)}; a newer version of congling may know it"
            raise UserError(what, where=path, value=facts.get("kind"), hint=hint)
    return layers
