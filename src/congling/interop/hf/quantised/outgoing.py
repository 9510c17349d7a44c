"""Layers in few bits as a folder holds them: which formats fit, and their parts one layer at a time."""

# O outputs, I inputs

from collections.abc import Callable, Iterator, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from congling.core.errors import UserError
from congling.interop.hf.conventions import Conversion
from congling.interop.hf.outgoing import OutgoingTensors
from congling.interop.hf.quantised import matrices
from congling.interop.hf.quantised.scheme import Scheme
from congling.interop.names import ARCHITECTURES, Entry, pattern
from congling.interop.obstacles import Obstacle, Unrepresentable
from congling.quant.coded import CodedLinear
from congling.quant.frozen import FrozenLinear
from congling.quant.grid import Grid
from congling.quant.int8 import Int8Linear

Kind = Literal["GPTQ", "AWQ", "CT", "BNB"]
"""As a person names a format: ``convert --type``."""
KINDS: tuple[Kind, ...] = get_args(Kind)
KIND_OF: dict[str, Kind] = {"gptq": "GPTQ", "awq": "AWQ", "compressed-tensors": "CT", "bitsandbytes": "BNB"}
"""By ``quant_method``."""
_WEIGHT = ".weight"
_MULTIPLE = 32
"""Packers of GPTQ and AWQ want both sides of a matrix to be multiples of it."""
_GGUF = "convert it to GGUF, which holds codes of 2 to 4 bits as they are, and symmetric ones of 8"


def scheme_for(layers: Mapping[str, FrozenLinear], kind: str) -> Scheme:
    """How all layers of a model are stored in a format.

    Raises:
        Unrepresentable: the format cannot hold them; with the nearest that can.
    """
    if not layers:
        raise UserError(
            "this model has no layers in few bits", value=kind, hint="quantise it first: congling quantize"
        )
    kinds = {type(layer) for layer in layers.values()}
    if kinds == {Int8Linear}:
        return _in_int8([layer for layer in layers.values() if isinstance(layer, Int8Linear)], kind)
    if kinds != {CodedLinear}:
        raise _obstacle(f"no folder of {kind} holds layers of this kind", "quantise with rtn, gptq or awq")
    return _on_a_grid([layer for layer in layers.values() if isinstance(layer, CodedLinear)], kind)


def natural(layers: Mapping[str, FrozenLinear]) -> Kind:
    """The format that holds these layers and that most programs read.

    Raises:
        Unrepresentable: none does.
    """
    first = next(iter(layers.values()))
    if isinstance(first, Int8Linear):
        return "BNB" if first.threshold else "CT"
    kinds: tuple[Kind, ...] = ("GPTQ", "AWQ", "CT")
    refused: Unrepresentable | None = None
    for kind in kinds:
        try:
            scheme_for(layers, kind)
            return kind
        except Unrepresentable as error:
            refused = refused or error
    assert refused is not None
    raise refused


def _on_a_grid(layers: list[CodedLinear], kind: str) -> Scheme:
    if kind == "BNB":
        what = "bitsandbytes holds rows of 8 bits, not codes in groups"
        raise _obstacle(what, "use --type gptq or ct, or quantise with --method int8")
    bits, sym = {layer.bits for layer in layers}, {layer.zeros is None for layer in layers}
    groups = {layer.group_size for layer in layers}
    whole = all(layer.group_size == layer.inputs for layer in layers)
    if len(bits) > 1 or len(sym) > 1 or (len(groups) > 1 and not whole):
        raise _obstacle("layers differ in bits, groups or zero points, and a folder has one of each", _GGUF)
    scheme = Scheme(
        {"GPTQ": "gptq", "AWQ": "awq", "CT": "pack-quantized"}[kind],  # type: ignore[arg-type]
        bits.pop(),
        -1 if whole else groups.pop(),
        sym.pop(),
        zero_offset=int(kind == "GPTQ"),
        half_scales=all(layer.half_scales for layer in layers),
    )
    if kind != "CT" and not scheme.half_scales:
        what = f"{kind} has scales of 16 bits, and some of these need 32"
        raise _obstacle(what, "use --type ct" if scheme.sym else _GGUF)
    odd = next((layer for layer in layers if layer.inputs % _MULTIPLE or layer.rows % _MULTIPLE), None)
    if kind != "CT" and odd is not None:
        what = f"{kind} packs matrices whose sides are multiples of {_MULTIPLE}, and one is "
        what += f"{odd.rows} × {odd.inputs}"
        raise _obstacle(what, "use --type ct if it is symmetric" if scheme.sym else _GGUF)
    if kind == "GPTQ" and any(layer.zeros is not None and not bool(layer.zeros.all()) for layer in layers):
        what = "GPTQ's format stores zero points less one, and has no zero point of 0"
        raise _obstacle(what, "use --type awq (4 bits), or quantise with sym=true")
    if kind == "AWQ" and scheme.bits != 4:
        raise _obstacle(f"AWQ has 4 bits, not {scheme.bits}", "use --type gptq")
    if kind == "CT" and not scheme.sym:
        what = "transformers does not load asymmetric codes of compressed-tensors"
        raise _obstacle(what, "use --type awq (4 bits) or gptq, or quantise with sym=true")
    return scheme


def _in_int8(layers: list[Int8Linear], kind: str) -> Scheme:
    if kind not in ("BNB", "CT"):
        what = f"{kind} rounds weights alone, and these layers round their inputs too"
        raise _obstacle(what, "use --type bnb or ct")
    thresholds = {layer.threshold for layer in layers}
    if len(thresholds) > 1:
        raise _obstacle("layers differ in llm_int8_threshold, and a folder has one", "quantise them alike")
    if any(len(layer.outliers) for layer in layers):
        what = f"{kind} holds every column in 8 bits, and some of these are kept in 16"
        raise _obstacle(what, "convert it to GGUF, or quantise without data, as bitsandbytes does")
    threshold = thresholds.pop()
    if kind == "CT" and threshold:
        what = "compressed-tensors has no columns that leave the product in int8"
        raise _obstacle(what, "use --type bnb, or quantise with --method smoothquant")
    return Scheme("bitsandbytes" if kind == "BNB" else "int-quantized", threshold=threshold)


def _of_block(name: str, plain: OutgoingTensors) -> bool:
    """Whether one of their tensors is a matrix within a block."""
    numbered = any(part.isdecimal() for part in name.split("."))
    return numbered and name.endswith(_WEIGHT) and len(plain.layout[name][0]) == 2


def _obstacle(what: str, nearest: str) -> Unrepresentable:
    return Unrepresentable(Obstacle(what, nearest, nearest))


class OutgoingLayers(Mapping[str, Tensor]):
    """The tensors of a folder, layers in few bits among them; parts of one layer are made together.

    Raises:
        Unrepresentable: a class that stores matrices the other way, or one matrix of which a part alone is
            in few bits.
    """

    def __init__(
        self,
        plain: OutgoingTensors,
        layers: Mapping[str, FrozenLinear],
        architecture: str,
        scheme: Scheme,
        conversions: Mapping[str, Conversion],
    ) -> None:
        self._plain, self._layers, self._scheme, self._conversions = plain, layers, scheme, conversions
        self._last: tuple[str, dict[str, Tensor]] = ("", {})
        self._loaders: dict[str, Callable[[], Tensor]] = {}
        self.layout: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}
        """Shape and type of each, known without making any."""
        theirs = dict(self._matrices(architecture))
        self.floats = [
            name.removesuffix(_WEIGHT) for name in plain if _of_block(name, plain) and name not in theirs
        ]
        """Matrices of blocks that are in floats."""
        if self.floats and scheme.format == "gptq":
            what = f"GPTQ has no list of layers in floats, and {self.floats[0]} is one"
            raise _obstacle(what, "use --type awq (4 bits) or ct")
        for name in plain:
            if name not in theirs:
                self._loaders[name] = lambda name=name: plain[name]
                self.layout[name] = plain.layout[name]
                continue
            layer, ours = name.removesuffix(_WEIGHT), theirs[name]
            outputs = sum(layers[part].out_features for part in ours)
            for part, told in matrices.layout(scheme, outputs, layers[ours[0]].in_features).items():
                self._loaders[f"{layer}.{part}"] = lambda layer=layer, ours=ours, part=part: self._part(
                    layer, ours, part
                )
                self.layout[f"{layer}.{part}"] = told

    def __getitem__(self, name: str) -> Tensor:
        return self._loaders[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaders)

    def __len__(self) -> int:
        return len(self._loaders)

    def _matrices(self, architecture: str) -> Iterator[tuple[str, list[str]]]:
        """Their matrix and our layers in it, one below the other."""
        for name in self._layers:
            ours, block = pattern(f"{name}.weight")
            entry: Entry = next(entry for entry in ARCHITECTURES[architecture] if ours in entry.ours)
            parts = [part.format(block).removesuffix(".weight") for part in entry.ours]
            if entry.transposed:
                raise _obstacle(f"matrices of {architecture} are no linear layers in other programs", _GGUF)
            if any(part not in self._layers for part in parts):
                raise _obstacle(f"{entry.theirs} is one matrix, and a part of it alone is in few bits", _GGUF)
            yield entry.theirs.format(block), parts

    def _part(self, layer: str, ours: list[str], part: str) -> Tensor:
        if self._last[0] != layer:
            self._last = (layer, self._parts(ours))
        return self._last[1][part]

    def _parts(self, ours: list[str]) -> dict[str, Tensor]:
        made = [self._layers[name] for name in ours]
        orders = [
            self._order(f"{name}.weight", one.out_features) for name, one in zip(ours, made, strict=True)
        ]
        if self._scheme.format in ("int-quantized", "bitsandbytes"):
            integers = [one for one in made if isinstance(one, Int8Linear)]
            codes = torch.cat([one.codes[order] for one, order in zip(integers, orders, strict=True)])
            most = torch.cat([one.scales[order] for one, order in zip(integers, orders, strict=True)])
            return matrices.integer_parts(self._scheme, codes, most)
        coded = [one for one in made if isinstance(one, CodedLinear)]
        codes = torch.cat([one.codes[order] for one, order in zip(coded, orders, strict=True)])
        scales = torch.cat([one.scales[order] for one, order in zip(coded, orders, strict=True)])
        zeros = [one.zeros[order] for one, order in zip(coded, orders, strict=True) if one.zeros is not None]
        grid = Grid(scales, torch.cat(zeros) if zeros else None, coded[0].bits, coded[0].group_size)
        return matrices.coded_parts(self._scheme, codes, grid)

    def _order(self, name: str, rows: int) -> Tensor:
        """Our number of each of their rows."""
        order = torch.arange(rows)
        return self._conversions[name].to_theirs(order) if name in self._conversions else order
