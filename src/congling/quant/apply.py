"""A model's linear layers put in few bits, block after block, from outside.

::

    rows ─▶ block 0, in floats ── statistics ─▶ codes ─▶ block 0, in few bits ─▶ block 1 …
                │ query, key, value │ output │ gate, up │ down │      each group after those before it

What a layer is calibrated on went through all layers before it as they are now (true sequential).
Held at a time: the inputs of one block, and the statistics of one group of layers. Embedding, norms, routers
and the output matrix stay as they are.
"""

# B rows, T time, W width, O outputs, I inputs

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from congling.core.errors import UserError
from congling.model.config import ModelConfig
from congling.model.positions import AttentionContext
from congling.model.transformer import Transformer
from congling.quant.config import GridConfig, QuantConfig
from congling.quant.experts import separate_experts
from congling.quant.grid import fitting_group
from congling.quant.methods import METHODS
from congling.quant.statistics import InputStatistics, InputSums

Rows = tuple[Tensor, Tensor | None, Tensor | None]
"""Ids, positions and documents (B, T) of some rows, as the model takes them; without padding."""
STAGES = (("query", "key", "value"), ("output",), ("gate", "up"), ("down",))
"""Layers of a block in the order in which they compute; those of one stage do not see each other."""


@dataclass(frozen=True)
class LayerReport:
    """What became of one linear layer."""

    place: str
    tokens: int
    """Tokens of the calibration that reached it; 0 without calibration."""
    weight_error: float
    """‖W - Ŵ‖² / ‖W‖²."""
    output_error: float | None
    """‖(W - Ŵ)X‖² / ‖WX‖² over the calibration; None without one."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class BlockReport:
    """What became of one block."""

    layers: tuple[LayerReport, ...]
    drift: float | None
    """‖x - x̂‖² / ‖x‖² of its output, over the first rows, against the model in floats all along."""
    notes: tuple[str, ...] = ()


def linear_layers(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """The linear layers of the blocks, with their places."""
    for place, module in model.named_modules():
        if isinstance(module, nn.Linear) and place.startswith("blocks."):
            yield place, module


def layer_sizes(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """(O, I) of every linear layer that can be put in few bits, by place; builds no weights."""
    with torch.device("meta"):
        model = Transformer(config)
    separate_experts(model)
    return {place: (layer.out_features, layer.in_features) for place, layer in linear_layers(model)}


def check_shapes(sizes: Mapping[str, tuple[int, int]], config: QuantConfig) -> None:
    """Refuse a group that does not divide all layers, before anything is done.

    Args:
        sizes: (O, I) of the layers by place.
        config: the method.

    Raises:
        UserError: with the group sizes that fit all of them.
    """
    if not isinstance(config, GridConfig):
        return
    for place, (_, inputs) in sizes.items():
        try:
            fitting_group(inputs, config.group_size)
        except UserError as error:
            fitting = [
                size for size in (8, 16, 32, 64, 128, 256) if not any(i % size for _, i in sizes.values())
            ]
            hint = f"these divide all layers: {', '.join(map(str, [*fitting, -1]))} (-1: the whole row)"
            raise UserError(
                f"{place}: {error.what}", where="group_size", value=error.value, hint=hint
            ) from None


@torch.no_grad()
def quantise(
    model: Transformer,
    config: QuantConfig,
    rows: Sequence[Rows] = (),
    step: Callable[[float], None] = lambda done: None,
) -> list[BlockReport]:
    """Put layers of few bits in the place of the linear layers of all blocks; in place, block by block.

    Args:
        model: dense, without adapters; it is frozen and in evaluation mode afterwards.
        config: the method.
        rows: calibration text, batch by batch; needed by methods that look at inputs.
        step: told after each piece of work how much of a block it was.

    Raises:
        UserError: groups that do not divide; weights or inputs that are not finite; no calibration text.
    """
    method = METHODS[config.method]
    model.eval().requires_grad_(False)
    separate_experts(model)
    check_shapes(layer_sizes(model.config), config)
    if method.calibrated and not rows:
        raise UserError(f"{config.method} looks at what the model reads: it needs a text", hint="--data FILE")
    walk = _Walk(model, config, list(rows) if method.calibrated else [], step)
    return [walk.block(index) for index in range(len(model.blocks))]


class _Stop(Exception):
    """All that a pass was for has been seen."""


class _Walk:
    """The way through the blocks."""

    def __init__(
        self, model: Transformer, config: QuantConfig, rows: Sequence[Rows], step: Callable[[float], None]
    ) -> None:
        self.model, self.config, self.rows, self.step = model, config, rows, step
        self.method = METHODS[config.method]
        self.inputs = [_begun(model, row)[0] for row in rows]
        self.floats = self.inputs[0].clone() if rows else None
        """The first rows through the model in floats."""

    def block(self, index: int) -> BlockReport:
        """Put one block in few bits, and make the inputs of the next."""
        if self.floats is not None:
            self.floats = self._through(index, self.floats, self.rows[0])
        places = [place for place, _ in linear_layers(self.model) if place.startswith(f"blocks.{index}.")]
        stages = [[place for place in places if _kind(place) in stage] for stage in STAGES]
        notes: tuple[str, ...] = ()
        if self.method.before is not None:
            notes = self.method.before(self.model, index, self._gathered(index, places), self.config)
        layers: list[LayerReport] = []
        for stage in stages:
            found = self._gathered(index, stage) if self.rows else {}
            layers += [self._replace(place, found.get(place)) for place in stage]
            self.step(1 / (len(STAGES) + 1))
        for at, row in enumerate(self.rows):
            self.inputs[at] = self._through(index, self.inputs[at], row)
        self.step(1 / (len(STAGES) + 1))
        return BlockReport(tuple(layers), self._drift(), notes)

    def _through(self, index: int, x: Tensor, row: Rows) -> Tensor:
        """What a block makes of (B, T, W): the same shape."""
        return self.model.blocks[index](x, _begun(self.model, row)[1][index])

    def _gathered(self, index: int, places: Sequence[str]) -> dict[str, InputStatistics]:
        """What the inputs of some layers of a block look like; one object for those that read one tensor."""
        readers: dict[tuple[str, ...], str] = {}
        for place in places:
            readers.setdefault(_reads(place), place)
        sums: dict[str, InputSums] = {}
        with contextlib.ExitStack() as hooks:
            left: set[str] = set()

            def watch(place: str, layer: Any) -> Callable[..., None]:
                sums[place] = InputSums(layer.in_features, layer.weight.device)

                def see(module: nn.Module, given: tuple[Tensor, ...]) -> None:
                    sums[place].add(given[0])
                    left.discard(place)
                    if not left:
                        raise _Stop

                return see

            for place in readers.values():
                layer = self.model.get_submodule(place)
                hooks.callback(layer.register_forward_pre_hook(watch(place, layer)).remove)
            for x, row in zip(self.inputs, self.rows, strict=True):
                left.update(sums)
                with contextlib.suppress(_Stop):
                    self._through(index, x, row)
        found = {place: one.statistics() for place, one in sums.items()}
        odd = next((place for place, one in found.items() if not bool(one.gram.isfinite().all())), None)
        if odd is not None:
            what = "the inputs of a layer are not finite: its weights, or those before it, are damaged"
            raise UserError(what, value=odd)
        return {place: found[readers[_reads(place)]] for place in places}

    def _replace(self, place: str, statistics: InputStatistics | None) -> LayerReport:
        """Put a layer in few bits in the place of a linear layer."""
        linear: Any = self.model.get_submodule(place)
        weight, device = linear.weight.detach().float().cpu(), linear.weight.device
        bias = None if linear.bias is None else linear.bias.detach().float().cpu().clone()
        try:
            layer, notes = self.method.layer(place, weight, bias, statistics, self.config)
        except UserError as error:
            raise UserError(error.what, where=place, value=error.value, hint=error.hint) from None
        self.model.set_submodule(place, layer.to(device))
        off = (weight - layer.dense().cpu()).double()
        error = None
        if statistics is not None and statistics.tokens:
            error = _share(
                ((off @ statistics.gram) * off).sum(), ((weight.double() @ statistics.gram) * weight).sum()
            )
        tokens = 0 if statistics is None else statistics.tokens
        return LayerReport(
            place, tokens, _share(off.square().sum(), weight.double().square().sum()), error, notes
        )

    def _drift(self) -> float | None:
        if self.floats is None:
            return None
        off = (self.inputs[0] - self.floats).double()
        return _share(off.square().sum(), self.floats.double().square().sum())


def _begun(model: Transformer, row: Rows) -> tuple[Tensor, list[AttentionContext]]:
    tokens, positions, documents = row
    return model.begin(tokens, positions=positions, documents=documents)


def _share(part: Tensor, whole: Tensor) -> float:
    """Part of a whole; 0 of nothing."""
    return float(part / whole) if float(whole) > 0 else 0.0


def _kind(place: str) -> str:
    """``gate`` of ``blocks.0.mlp.gate`` and of ``blocks.0.mlp.experts.gate.7``."""
    return next(part for part in reversed(place.split(".")) if not part.isdigit())


def _reads(place: str) -> tuple[str, ...]:
    """A name of the tensor that a layer reads: the same for query, key and value, for gate and up."""
    kind = _kind(place)
    stage = next(at for at, stage in enumerate(STAGES) if kind in stage)
    return (*(part for part in place.split(".") if part != kind), str(stage))
