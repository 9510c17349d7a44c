"""Values of ggml's blocks, in torch: on any device, into memory that is used again, equal to the last bit to
what ``ggml.decode`` gives.

A block's fields are read through views of its bytes; nothing is copied before it is float32. Layouts and
arithmetic are those of ggml (formats: GGUF v3, block types).
"""

# R rows, B bytes of a row, K blocks of a row, n values of a row

from collections.abc import Callable

import torch
from torch import Tensor

from congling.core.errors import UserError
from congling.quant import ggml

Blocks = Tensor
"""(R, K, bytes of a block) uint8."""


def unpack(raw: Tensor, type: str, out: Tensor) -> Tensor:
    """Values of packed rows: (R, B) uint8 into ``out`` (R, n) float32, which is returned.

    Raises:
        UserError: tensors of this type cannot be decoded.
    """
    if type in _PLAIN:
        return out.copy_(raw.view(_PLAIN[type]))
    kind = ggml.TYPES[type]
    blocks = raw.view(raw.shape[0], -1, kind.bytes)
    decoder = _DECODERS.get(type)
    if decoder is None:
        return out.copy_(torch.from_numpy(ggml.decode(raw.cpu().numpy(), type)))
    decoder(blocks, out.view(raw.shape[0], -1, kind.values))
    return out


def check_type(type: str) -> None:
    """Make sure that tensors of a type can be unpacked at all.

    Raises:
        UserError: they cannot.
    """
    if type in _PLAIN or type in _DECODERS:
        return
    kind = ggml.TYPES.get(type)
    if kind is None:
        raise UserError("no such tensor type", value=type)
    ggml.decode(torch.zeros(1, kind.bytes, dtype=torch.uint8).numpy(), type)


def half(blocks: Blocks, start: int) -> Tensor:
    """(R, K, 1) float32: the float16 at a byte of every block."""
    return blocks[..., start : start + 2].view(torch.float16).float()


def _q8_0(blocks: Blocks, out: Tensor) -> None:
    out.copy_(blocks[..., 2:].view(torch.int8)).mul_(half(blocks, 0))


def _nibbles(blocks: Blocks, start: int) -> Tensor:
    """(R, K, 32) uint8: 16 low halves of bytes, then the 16 high halves."""
    bytes = blocks[..., start : start + 16]
    return torch.cat((bytes & 15, bytes >> 4), dim=-1)


def _fifth_bits(blocks: Blocks, start: int) -> Tensor:
    """(R, K, 32) uint8, 16 or 0: bit j of a 32-bit word belongs to value j."""
    shifts = torch.arange(8, dtype=torch.uint8, device=blocks.device)
    bits = (blocks[..., start : start + 4, None] >> shifts) & 1
    return bits.flatten(-2) << 4


def _q4_0(blocks: Blocks, out: Tensor) -> None:
    out.copy_(_nibbles(blocks, 2)).sub_(8).mul_(half(blocks, 0))


def _q4_1(blocks: Blocks, out: Tensor) -> None:
    out.copy_(_nibbles(blocks, 4)).mul_(half(blocks, 0)).add_(half(blocks, 2))


def _q5_0(blocks: Blocks, out: Tensor) -> None:
    out.copy_(_nibbles(blocks, 6) | _fifth_bits(blocks, 2)).sub_(16).mul_(half(blocks, 0))


def _q5_1(blocks: Blocks, out: Tensor) -> None:
    out.copy_(_nibbles(blocks, 8) | _fifth_bits(blocks, 4)).mul_(half(blocks, 0)).add_(half(blocks, 2))


def _runs(bytes: Tensor, shifts: tuple[int, ...], mask: int) -> Tensor:
    """Fields of some bits, run by run: (R, K, halves · c) uint8 -> (R, K, halves, len(shifts), c)."""
    shift = torch.tensor(shifts, dtype=torch.uint8, device=bytes.device)[:, None]
    return (bytes.unsqueeze(-2) >> shift) & mask


def _q2_k(blocks: Blocks, out: Tensor) -> None:
    scales = blocks[..., :16]
    values = _runs(blocks[..., 16:80].unflatten(-1, (2, 32)), (0, 2, 4, 6), 3)  # (R, K, 2, 4, 32)
    groups = out.unflatten(-1, (16, 16))
    groups.copy_(values.reshape(groups.shape))
    groups.mul_((half(blocks, 80) * (scales & 15)).unsqueeze(-1))
    groups.sub_((half(blocks, 82) * (scales >> 4)).unsqueeze(-1))


def _q3_k(blocks: Blocks, out: Tensor) -> None:
    low = _runs(blocks[..., 32:96].unflatten(-1, (2, 32)), (0, 2, 4, 6), 3)  # (R, K, 2, 4, 32)
    high = _runs(blocks[..., :32], tuple(range(8)), 1).unflatten(-2, (2, 4))  # the bit of run half·4 + run
    groups = out.unflatten(-1, (16, 16))
    values = (low | (high << 2)).to(torch.int8) - 4
    groups.copy_(values.reshape(groups.shape))
    groups.mul_((half(blocks, 108) * signed_scales(blocks[..., 96:108])).unsqueeze(-1))


def signed_scales(bytes: Tensor) -> Tensor:
    """Six-bit scales of Q3_K: (R, K, 12) uint8 -> (R, K, 16) int8."""
    six = (bytes[..., :8].unsqueeze(-2) >> _shifts((0, 4), bytes)) & 15  # (R, K, 2, 8)
    top = ((bytes[..., 8:].unsqueeze(-2) >> _shifts((0, 2, 4, 6), bytes)) & 3) << 4  # (R, K, 4, 4)
    return (six.flatten(-2) | top.flatten(-2)).to(torch.int8) - 32


def _shifts(shifts: tuple[int, ...], like: Tensor) -> Tensor:
    return torch.tensor(shifts, dtype=torch.uint8, device=like.device)[:, None]


def packed_scales(bytes: Tensor) -> tuple[Tensor, Tensor]:
    """Six-bit scales and minima of Q4_K and Q5_K: (R, K, 12) -> twice (R, K, 8) uint8."""
    first, second, third = bytes[..., :4], bytes[..., 4:8], bytes[..., 8:]
    scales = torch.cat((first & 63, (third & 15) | ((first >> 6) << 4)), dim=-1)
    minima = torch.cat((second & 63, (third >> 4) | ((second >> 6) << 4)), dim=-1)
    return scales, minima


def _with_minima(blocks: Blocks, values: Tensor, out: Tensor) -> None:
    """``d · scale · value - dmin · minimum`` for groups of 32."""
    scales, minima = packed_scales(blocks[..., 4:16])
    groups = out.unflatten(-1, (8, 32))
    groups.copy_(values.reshape(groups.shape))
    groups.mul_((half(blocks, 0) * scales).unsqueeze(-1))
    groups.sub_((half(blocks, 2) * minima).unsqueeze(-1))


def _q4_k(blocks: Blocks, out: Tensor) -> None:
    _with_minima(blocks, _runs(blocks[..., 16:].unflatten(-1, (4, 32)), (0, 4), 15), out)


def _q5_k(blocks: Blocks, out: Tensor) -> None:
    low = _runs(blocks[..., 48:].unflatten(-1, (4, 32)), (0, 4), 15)  # (R, K, 4, 2, 32)
    high = _runs(blocks[..., 16:48], tuple(range(8)), 1).unflatten(-2, (4, 2))
    _with_minima(blocks, low | (high << 4), out)


def _q6_k(blocks: Blocks, out: Tensor) -> None:
    low = _runs(blocks[..., :128].unflatten(-1, (2, 64)), (0, 4), 15)  # (R, K, 2, 2, 64)
    high = _runs(blocks[..., 128:192].unflatten(-1, (2, 32)), (0, 2, 4, 6), 3)  # (R, K, 2, 4, 32)
    values = (low.reshape(high.shape) | (high << 4)).to(torch.int8) - 32
    scales = half(blocks, 208) * blocks[..., 192:208].view(torch.int8)
    groups = out.unflatten(-1, (16, 16))
    groups.copy_(values.reshape(groups.shape))
    groups.mul_(scales.unsqueeze(-1))


_PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_DECODERS: dict[str, Callable[[Blocks, Tensor], None]] = {
    "Q8_0": _q8_0, "Q4_0": _q4_0, "Q4_1": _q4_1, "Q5_0": _q5_0, "Q5_1": _q5_1,
    "Q2_K": _q2_k, "Q3_K": _q3_k, "Q4_K": _q4_k, "Q5_K": _q5_k, "Q6_K": _q6_k,
}  # fmt: skip
