"""Codes chosen with GPTQ's error feedback, in ggml's own blocks: same size, same kernels, less loss.

::

    ggml.encode ──▶ blocks ── scales, minima ──▶ a fixed grid ── GPTQ ──▶ codes ──▶ back into the blocks

Scales and minima are those that ggml's search found (best with an importance matrix); then, with the codes
fixed, they are refitted to the layer's outputs, and the codes chosen anew. A row is replaced only where the
error of its outputs falls. Types whose codes are entries of a codebook (IQ) are left as they are.

Sources: Frantar et al. 2022 (arXiv:2210.17323); ggml's block layouts.
"""

# O outputs (rows), I inputs, K blocks of a row, B bytes of a block, N values of a block, G groups of a block

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from congling.quant import ggml
from congling.quant.feedback import Columns, codes_by_descent, codes_with_feedback, output_error
from congling.quant.unpack import half, packed_scales, signed_scales, unpack

_ROUNDS = 1
"""How often factors and codes are chosen anew."""


@dataclass(frozen=True)
class _Bits:
    """Where some bits of every value's code lie in a block: (N,) bytes and shifts, and how many bits."""

    byte: Tensor
    shift: Tensor
    count: int


@dataclass(frozen=True)
class Layout:
    """Codes and grid of one type: ``value = scale · (code - zero) - minimum``."""

    bits: tuple[_Bits, ...]
    """Lowest bits of a code first."""
    zero: int
    grid: Callable[[Tensor], tuple[Tensor, Tensor | None]]
    """Blocks (O, K, B) to scales and minima (O, K, G) float32."""
    scale_at: int
    """Byte of the float16 that multiplies all scales of a block."""
    minimum_at: int | None = None
    """Byte of the float16 that multiplies all minima."""
    flipped: int = 0
    """Bits of a code that are stored inverted (those of signed bytes)."""

    @property
    def highest(self) -> int:
        """Largest code; the smallest is 0."""
        return 2 ** sum(part.count for part in self.bits) - 1

    def columns(self, blocks: Tensor) -> Columns:
        """The grid of every value: (O, K, B) -> twice (O, I) float64."""
        scales, minima = self.grid(blocks)
        spread = len(self.bits[0].byte) // scales.shape[-1]
        scale = scales.double().repeat_interleave(spread, -1).flatten(1)
        offset = scale * self.zero
        if minima is not None:
            offset += minima.double().repeat_interleave(spread, -1).flatten(1)
        return Columns(scale, offset, 0, self.highest, self.codes(blocks).flatten(1))

    def codes(self, blocks: Tensor) -> Tensor:
        """(O, K, B) uint8 -> (O, K, N) uint8."""
        found, below = torch.zeros(*blocks.shape[:2], len(self.bits[0].byte), dtype=torch.uint8), 0
        for part in self.bits:
            found |= ((blocks[..., part.byte] >> part.shift) & (2**part.count - 1)) << below
            below += part.count
        return found ^ self.flipped

    def put(self, blocks: Tensor, codes: Tensor) -> Tensor:
        """Blocks (O, K, B) with other codes, (O, I) of any type, in them."""
        blocks, below = blocks.clone(), 0
        codes = codes.to(torch.uint8).view(*blocks.shape[:2], -1) ^ self.flipped
        for part in self.bits:
            blocks[..., part.byte.unique()] = 0
        for part in self.bits:
            some = ((codes >> below) & (2**part.count - 1)) << part.shift
            blocks.index_add_(-1, part.byte, some)
            below += part.count
        return blocks


def _bits(count: int, at: int, runs: int, bytes: int, parts: int) -> _Bits:
    """Codes in ``parts`` runs of ``bytes`` bytes, each run serving ``runs`` runs of values in turn."""
    place = torch.arange(parts * runs * bytes)
    part, run, byte = place // (runs * bytes), place // bytes % runs, place % bytes
    return _Bits(at + part * bytes + byte, (run * count).to(torch.uint8), count)


def _fifth_bits(at: int) -> _Bits:
    place = torch.arange(32)
    return _Bits(at + place // 8, (place % 8).to(torch.uint8), 1)


def _plain(blocks: Tensor) -> tuple[Tensor, None]:
    return half(blocks, 0), None


def _with_minimum(blocks: Tensor) -> tuple[Tensor, Tensor]:
    return half(blocks, 0), -half(blocks, 2)


def _q2_k(blocks: Tensor) -> tuple[Tensor, Tensor]:
    both = blocks[..., :16]
    return half(blocks, 80) * (both & 15), half(blocks, 82) * (both >> 4)


def _q3_k(blocks: Tensor) -> tuple[Tensor, None]:
    return half(blocks, 108) * signed_scales(blocks[..., 96:108]), None


def _q45_k(blocks: Tensor) -> tuple[Tensor, Tensor]:
    scales, minima = packed_scales(blocks[..., 4:16])
    return half(blocks, 0) * scales, half(blocks, 2) * minima


def _q6_k(blocks: Tensor) -> tuple[Tensor, None]:
    return half(blocks, 208) * blocks[..., 192:208].view(torch.int8), None


@cache
def _layouts() -> dict[str, Layout]:
    """By the type's name."""
    nibbles = {at: _bits(4, at, 2, 16, 1) for at in (2, 4, 6, 8)}
    return {
        "Q4_0": Layout((nibbles[2],), 8, _plain, 0),
        "Q4_1": Layout((nibbles[4],), 0, _with_minimum, 0, 2),
        "Q5_0": Layout((nibbles[6], _fifth_bits(2)), 16, _plain, 0),
        "Q5_1": Layout((nibbles[8], _fifth_bits(4)), 0, _with_minimum, 0, 2),
        "Q8_0": Layout((_bits(8, 2, 1, 32, 1),), 128, _plain, 0, flipped=128),
        "Q2_K": Layout((_bits(2, 16, 4, 32, 2),), 0, _q2_k, 80, 82),
        "Q3_K": Layout((_bits(2, 32, 4, 32, 2), _bits(1, 0, 8, 32, 1)), 4, _q3_k, 108),
        "Q4_K": Layout((_bits(4, 16, 2, 32, 4),), 0, _q45_k, 0, 2),
        "Q5_K": Layout((_bits(4, 48, 2, 32, 4), _bits(1, 16, 8, 32, 1)), 0, _q45_k, 0, 2),
        "Q6_K": Layout((_bits(4, 0, 2, 64, 2), _bits(2, 128, 4, 32, 2)), 32, _q6_k, 208),
    }


def layout_of(type: str) -> Layout | None:
    """Where a type keeps its codes; None: they are no multiples of a scale."""
    return _layouts().get(type)


def onto_ggml(weight: Tensor, raw: Tensor, type: str, gram: Tensor, damp_percent: float = 0.01) -> Tensor:
    """Blocks of the same size whose layer gives outputs nearer to the weight's: (O, bytes) uint8.

    Args:
        weight: (O, I) float32.
        raw: the same weight as ggml encodes it, (O, bytes of a row) uint8.
        type: of the blocks; of one whose codes are no multiples of a scale ``raw`` is returned.
        gram: (I, I), 2/n · Σ xxᵀ over the layer's inputs, or any multiple of it.
        damp_percent: share of the mean of its diagonal that is added to it.

    Raises:
        UserError: weight or ``gram`` are not finite.
    """
    layout = layout_of(type)
    if layout is None:
        return raw
    weight, gram = weight.double(), gram.double()
    given = raw.view(len(raw), -1, ggml.TYPES[type].bytes)
    blocks = layout.put(given, codes_with_feedback(weight, gram, layout.columns(given), damp_percent)[0])
    for _ in range(_ROUNDS):
        blocks = _refitted(weight, gram, blocks, layout)
        codes = layout.codes(blocks).flatten(1).double()
        blocks = layout.put(blocks, codes_by_descent(weight, gram, layout.columns(blocks), codes))
    best = blocks.flatten(1)
    values = (unpack(each, type, torch.empty(weight.shape)) for each in (best, raw))
    found, former = (output_error(weight, each, gram) for each in values)
    return torch.where((found < former)[:, None], best, raw)


def _refitted(weight: Tensor, gram: Tensor, blocks: Tensor, layout: Layout) -> Tensor:
    """The float16 factors of every block moved, one after another, to where the outputs are nearest."""
    blocks, size = blocks.clone(), weight.shape[1] // blocks.shape[1]
    codes = layout.codes(blocks).flatten(1).double()
    slope = (weight - layout.columns(blocks).value(codes, slice(None))) @ gram  # (O, I)
    for place in range(blocks.shape[1]):
        part, block = slice(place * size, (place + 1) * size), blocks[:, place : place + 1]
        inside = gram[part, part]
        for at in (layout.scale_at, layout.minimum_at):
            if at is None:
                continue
            columns = layout.columns(block)
            before = columns.value(codes[:, part], slice(None))
            # How the values change with the factor, as a share of it.
            minima = columns.scale * layout.zero - columns.offset
            change = minima if at == layout.minimum_at else columns.scale * (codes[:, part] - layout.zero)
            bend = ((change @ inside) * change).sum(1)
            share = torch.where(bend > 0, (change * slope[:, part]).sum(1) / bend, 0.0)
            field = block[:, 0, at : at + 2].view(torch.float16)
            field.copy_(_sound(field[:, 0].double() * (1 + share), field[:, 0])[:, None])
            moved = layout.columns(block).value(codes[:, part], slice(None)) - before
            slope -= moved @ gram[part]
    return blocks


def _sound(factor: Tensor, former: Tensor) -> Tensor:
    """Factors in float16, the former one where a new one would be 0 or too large."""
    rounded = factor.to(torch.float16)
    return torch.where(rounded.isfinite() & (rounded != 0), rounded, former)
