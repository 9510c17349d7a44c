"""A model's linear layers put in few bits, block after block, from outside.

::

    rows ─▶ block 0, in floats ── statistics ─▶ codes ─▶ block 0, in few bits ─▶ block 1 …
                │ query, key, value │ output │ gate, up │ down │      each group after those before it

What a layer is calibrated on went through all layers before it as they are now (true sequential): see
``walk.py``. Embedding, norms, routers and the output matrix stay as they are.
"""

# O outputs, I inputs

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from congling.core.errors import UserError
from congling.core.machine import trim_memory
from congling.model.counts import linear_shapes
from congling.model.transformer import Transformer
from congling.quant.config import GridConfig, QuantConfig, fitting_groups
from congling.quant.experts import separate_experts
from congling.quant.grid import fitting_group
from congling.quant.methods import METHODS
from congling.quant.statistics import InputStatistics
from congling.quant.walk import Rows, Walk


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
            fitting = ", ".join(map(str, fitting_groups(sizes)))
            hint = f"these divide all layers: {fitting} (-1: the whole row)"
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
    for place, tensor in model.state_dict().items():  # before hours of work on the blocks that come first
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise UserError("weights that are not finite cannot be quantised", where=place)
    model.eval().requires_grad_(False)
    separate_experts(model)
    check_shapes(linear_shapes(model.config), config)
    if method.calibrated and not rows:
        raise UserError(f"{config.method} looks at what the model reads: it needs a text", hint="--data FILE")
    quantiser = _Quantiser(model, config, rows if method.calibrated else (), step)
    return [quantiser.block() for _ in model.blocks]


class _Quantiser:
    """Takes a walk, and changes each block on the way."""

    def __init__(
        self, model: Transformer, config: QuantConfig, rows: Sequence[Rows], step: Callable[[float], None]
    ) -> None:
        self.model, self.config, self.step = model, config, step
        self.method = METHODS[config.method]
        self.walk = Walk(model, rows)
        self.floats = Walk(model, rows[:1])
        """The first rows, one block ahead: they go through blocks in floats alone."""

    def block(self) -> BlockReport:
        """Put one block in few bits, and make the inputs of the next."""
        self.floats.advance()
        stages = self.walk.stages()
        notes: tuple[str, ...] = ()
        if self.method.before is not None:
            everything = self.walk.statistics(self.walk.places())
            notes = self.method.before(self.model, self.walk.index, everything, self.config)
        layers: list[LayerReport] = []
        for stage in stages:
            found = self.walk.statistics(stage) if self.walk.rows else {}
            layers += [self._replace(place, found.get(place)) for place in stage]
            del found
            trim_memory()  # floats, statistics and copies of a layer leave holes that little fits into
            self.step(1 / (len(stages) + 1))
        self.walk.advance()
        self.step(1 / (len(stages) + 1))
        return BlockReport(tuple(layers), self._drift(), notes)

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
        if not self.walk.rows:
            return None
        off = (self.walk.inputs[0] - self.floats.inputs[0]).double()
        return _share(off.square().sum(), self.floats.inputs[0].double().square().sum())


def _share(part: Tensor, whole: Tensor) -> float:
    """Part of a whole; 0 of nothing."""
    return float(part / whole) if float(whole) > 0 else 0.0
