"""Layers in few bits as ggml's blocks, with the codes they have: nothing is rounded anew.

::

    CodedLinear     value = scale · (code - zero)    a float16 scale and a zero for each group
    OneBitLinear    value = scale · ±1               a float16 scale for each row

    TQ1_0 TQ2_0     -1 … 1 in blocks of 256          Q4_0  -8 … 7    Q5_0  -16 … 15    Q8_0  -128 … 127
    Q4_1 Q5_1       0 … 15, 0 … 31, and for each block a float16 minimum: -scale · zero, rounded

A group of several blocks repeats its scale. Source: ggml's block layouts.
"""

# O outputs (rows), I inputs, G groups of a row, K blocks of a row

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from congling.quant import ggml
from congling.quant.coded import CodedLinear
from congling.quant.frozen import FrozenLinear
from congling.quant.layouts import layout_of
from congling.quant.onebit import OneBitLinear, unpack_signs

TYPES = ("TQ1_0", "TQ2_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
"""From the fewest bits a weight to the most."""


@dataclass(frozen=True)
class Codes:
    """A matrix of whole numbers times scales."""

    numbers: Tensor
    """(O, I) int16: codes less their zeros."""
    scales: Tensor
    """(O, G) float32, holding values of float16."""
    zeros: Tensor
    """(O, G) or (1, 1) int16: what makes codes from 0 of the numbers."""

    def miss(self, type: str) -> float | None:
        """How far a weight is off at most in blocks of a type: 0 where they hold the matrix exactly; None
        where they do not hold its codes."""
        if type not in TYPES or (self.numbers.shape[1] // self.scales.shape[1]) % ggml.TYPES[type].values:
            return None
        layout = layout_of(type)
        if layout is None:
            return 0.0 if int(self.numbers.abs().max()) <= 1 else None
        codes = self.numbers + (layout.zero if layout.minimum_at is None else self._spread(self.zeros))
        if int(codes.min()) < 0 or int(codes.max()) > layout.highest:
            return None
        if layout.minimum_at is None:
            return 0.0
        off = float((self._minima() - self._minima().half()).abs().max())
        return off if np.isfinite(off) else None

    def blocks(self, type: str) -> np.ndarray:
        """(O, bytes of a row) uint8 of a type that ``miss`` accepts."""
        layout = layout_of(type)
        if layout is None:
            return ggml.encode((self.numbers * self._spread(self.scales)).numpy(), type)
        kind, (rows, inputs) = ggml.TYPES[type], self.numbers.shape
        blocks = torch.zeros(rows, inputs // kind.values, kind.bytes, dtype=torch.uint8)
        fields, zero = {layout.scale_at: self.scales}, torch.tensor(layout.zero)
        if layout.minimum_at is not None:
            fields[layout.minimum_at], zero = self._minima(), self._spread(self.zeros)
        for at, values in fields.items():
            halves = values.half().repeat_interleave(blocks.shape[1] // values.shape[1], 1)
            blocks[..., at : at + 2] = halves[..., None].view(torch.uint8)
        return layout.put(blocks, self.numbers + zero).flatten(1).numpy()

    def _minima(self) -> Tensor:
        return -(self.scales.double() * self.zeros)

    def _spread(self, groups: Tensor) -> Tensor:
        return groups.repeat_interleave(self.numbers.shape[1] // groups.shape[1], 1)


def codes_of(layer: FrozenLinear) -> Codes | None:
    """The numbers and scales of a layer; None where it is no such product, as with a layer norm behind it, or
    its scales are no float16, as those of a folder of another program may be."""
    if isinstance(layer, CodedLinear) and layer.half_scales:
        zeros = layer.grid.middles.to(torch.int16)
        spread = zeros.repeat_interleave(layer.inputs // zeros.shape[1], 1)
        return Codes(layer.codes.to(torch.int16) - spread, layer.scales, zeros)
    if isinstance(layer, OneBitLinear) and not layer.normalised:
        scales = layer.output_scale.float()[:, None]
        numbers = unpack_signs(layer.signs, layer.inputs).to(torch.int16)
        return Codes(numbers, scales, torch.ones(1, 1, dtype=torch.int16))
    return None
