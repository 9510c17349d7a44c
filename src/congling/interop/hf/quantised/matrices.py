"""Codes of one matrix in the layout of each format, and back, to the bit.

::

                   GPTQ                 AWQ gemm           pack-quantized        int-quantized, bitsandbytes
    codes          qweight (I·b/32, O)  qweight (I, O/8)   weight_packed (O, W)  weight (O, I)
    scales         scales (G, O)        scales (G, O)      weight_scale (O, G)   weight_scale (O, 1), SCB (O)
    zeros          qzeros (G, O·b/32)   qzeros (G, O/8)    -                     -
    besides        g_idx (I)                               weight_shape (2)      -, weight_format
    packed along   inputs               outputs, in turns  inputs                -

GPTQ's first version stores zeros less one. Sources: AutoGPTQ's ``qlinear_cuda_old``, AutoAWQ's ``gemm``,
compressed-tensors' ``pack_quantized``, bitsandbytes' ``Linear8bitLt``.
"""

# O outputs, I inputs, G groups of a row, b bits of a code, W words of a row

from collections.abc import Mapping

import torch
from torch import Tensor

from congling.core.errors import UserError
from congling.interop.hf.quantised.scheme import Scheme
from congling.interop.hf.quantised.words import packed, unpacked, words
from congling.quant.grid import Grid

Layout = dict[str, tuple[tuple[int, ...], torch.dtype]]
"""Shape and type of each part of a layer, by its name."""
_AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
"""Which of eight neighbours each nibble of a word of AWQ holds."""
_IN_PLACE = [_AWQ_ORDER.index(k) for k in range(8)]
CODES = {
    "gptq": "qweight", "awq": "qweight", "pack-quantized": "weight_packed", "int-quantized": "weight",
    "bitsandbytes": "weight",
}  # fmt: skip
"""The part with the codes, by format."""


def layout(scheme: Scheme, outputs: int, inputs: int) -> Layout:
    """The parts of a layer (O, I), without its bias."""
    groups, bits = inputs // scheme.group_of(inputs), scheme.bits
    match scheme.format:
        case "gptq":
            return {
                "qweight": ((words(inputs, bits), outputs), torch.int32),
                "qzeros": ((groups, words(outputs, bits)), torch.int32),
                "scales": ((groups, outputs), torch.float16),
                "g_idx": ((inputs,), torch.int32),
            }
        case "awq":
            return {
                "qweight": ((inputs, words(outputs, bits)), torch.int32),
                "qzeros": ((groups, words(outputs, bits)), torch.int32),
                "scales": ((groups, outputs), torch.float16),
            }
        case "pack-quantized":
            zeros = {"weight_zero_point": ((words(outputs, bits), groups), torch.int32)}
            return {
                "weight_packed": ((outputs, words(inputs, bits)), torch.int32),
                "weight_scale": ((outputs, groups), torch.float16 if scheme.half_scales else torch.float32),
                "weight_shape": ((2,), torch.int64),
            } | ({} if scheme.sym else zeros)
        case "int-quantized":
            return {
                "weight": ((outputs, inputs), torch.int8),
                "weight_scale": ((outputs, 1), torch.float32),
            }
        case "bitsandbytes":
            return {
                "weight": ((outputs, inputs), torch.int8),
                "SCB": ((outputs,), torch.float32),
                "weight_format": ((), torch.uint8),
            }


def coded_parts(scheme: Scheme, codes: Tensor, grid: Grid) -> dict[str, Tensor]:
    """The parts of a layer on a grid: (O, I) uint8 codes to what ``layout`` tells."""
    outputs, inputs = codes.shape
    zeros = torch.full(grid.scales.shape, 2 ** (grid.bits - 1), dtype=torch.uint8)
    zeros = zeros if grid.zeros is None else grid.zeros
    scales = grid.scales.half() if scheme.half_scales else grid.scales
    match scheme.format:
        case "gptq":
            return {
                "qweight": packed(codes, grid.bits).T,
                "qzeros": packed(zeros.T - scheme.zero_offset, grid.bits),
                "scales": scales.T,
                "g_idx": (torch.arange(inputs) // grid.group_size).to(torch.int32),
            }
        case "awq":
            return {
                "qweight": packed(_interleaved(codes.T, _AWQ_ORDER), grid.bits),
                "qzeros": packed(_interleaved(zeros.T, _AWQ_ORDER), grid.bits),
                "scales": scales.T,
            }
        case _:
            parts = {
                "weight_packed": packed(codes, grid.bits),
                "weight_scale": scales,
                "weight_shape": torch.tensor([outputs, inputs]),
            }
            return parts if scheme.sym else parts | {"weight_zero_point": packed(zeros.T, grid.bits).T}


def integer_parts(scheme: Scheme, codes: Tensor, most: Tensor) -> dict[str, Tensor]:
    """The parts of a layer of int8 codes (O, I), given the largest weight of each row (O,)."""
    if scheme.format == "bitsandbytes":
        return {"weight": codes, "SCB": most, "weight_format": torch.tensor(0, dtype=torch.uint8)}
    return {"weight": codes, "weight_scale": (most / 127)[:, None]}


def coded(scheme: Scheme, parts: Mapping[str, Tensor], outputs: int, inputs: int) -> tuple[Tensor, Grid]:
    """Codes (O, I) uint8 and grid of a layer from its parts, whose shapes are those of ``layout``.

    Columns are in the order of their groups: see ``group_order``.

    Raises:
        UserError: a zero point that this format does not have; see ``_zeros``.
    """
    bits, group = scheme.bits, scheme.group_of(inputs)
    match scheme.format:
        case "gptq":
            codes, scales = unpacked(parts["qweight"].T, bits, inputs), parts["scales"].T
            zeros = unpacked(parts["qzeros"], bits, outputs).T
        case "awq":
            codes = _interleaved(unpacked(parts["qweight"], bits, outputs), _IN_PLACE).T
            zeros = _interleaved(unpacked(parts["qzeros"], bits, outputs), _IN_PLACE).T
            scales = parts["scales"].T
        case _:
            codes, scales = unpacked(parts["weight_packed"], bits, inputs), parts["weight_scale"]
            zeros = None if scheme.sym else unpacked(parts["weight_zero_point"].T, bits, outputs).T
    found = None if zeros is None else _zeros(scheme, zeros)
    scales = scales.float().contiguous()
    return codes.contiguous(), Grid(scales, found, bits, group)


def group_order(g_idx: Tensor, group: int) -> Tensor | None:
    """Columns (I,) in the order of their groups; None: they lie so (not GPTQ's ``desc_act``).

    Raises:
        UserError: groups are not all of ``group`` columns.
    """
    groups = g_idx.long()
    in_order = torch.arange(len(groups)) // group
    if torch.equal(groups, in_order):
        return None
    order = groups.argsort(stable=True)
    if not torch.equal(groups[order], in_order):
        raise UserError(f"g_idx does not put {group} columns into every group", hint="fetch the file again")
    return order


def _zeros(scheme: Scheme, stored: Tensor) -> Tensor | None:
    """Zeros as a grid has them, from those in the file; None where all are in the middle and should be.

    Raises:
        UserError: they are those of the other version of GPTQ than the folder says.
    """
    middle, zeros = 2 ** (scheme.bits - 1), stored.to(torch.int16) + scheme.zero_offset
    if scheme.format == "gptq":
        told, other = ("gptq", "gptq_v2") if scheme.zero_offset else ("gptq_v2", "gptq")
        shift = 1 if scheme.zero_offset else -1
        beyond = bool((zeros > scheme.highest).any())
        if beyond or (scheme.sym and bool((zeros == middle + shift).all())):
            raise UserError(
                f"zero points are not those of checkpoint_format {told}, which the folder says it is",
                hint=f'if they are those of {other}, set "checkpoint_format": "{other}" in config.json',
            )
    if scheme.sym and not bool((zeros == middle).all()):
        raise UserError("the folder says that zero points are in the middle (sym), and they are not")
    in_middle = scheme.sym or (scheme.format == "awq" and bool((zeros == middle).all()))
    return None if in_middle else zeros.to(torch.uint8).contiguous()


def _interleaved(codes: Tensor, order: list[int]) -> Tensor:
    """(R, C) with every eight neighbours in another order."""
    return codes.unflatten(-1, (-1, 8))[..., order].flatten(-2)
