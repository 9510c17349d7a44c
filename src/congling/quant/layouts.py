"""Where ggml's block types keep their codes, and the grid that these stand on.

Types whose codes are entries of a codebook (IQ), or digits of base 3 (TQ1_0), have none. Source: ggml's block
layouts.
"""

# O outputs (rows), I inputs, K blocks of a row, B bytes of a block, N values of a block, G groups of a block

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from congling.quant.feedback import Columns
from congling.quant.unpack import half, packed_scales, signed_scales


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
