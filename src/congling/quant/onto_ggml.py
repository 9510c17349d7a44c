"""Codes chosen with GPTQ's error feedback, in ggml's own blocks: same size, same kernels, less loss.

::

    ggml.encode ──▶ blocks ── scales, minima ──▶ a fixed grid ── GPTQ ──▶ codes ──▶ back into the blocks

Scales and minima are those that ggml's search found (best with an importance matrix); then, with the codes
fixed, they are refitted to the layer's outputs, and the codes chosen anew. A row is replaced only where the
error of its outputs falls. Types whose codes are entries of a codebook (IQ) are left as they are.

Source: Frantar et al. 2022 (arXiv:2210.17323).
"""

# O outputs (rows), I inputs

import torch
from torch import Tensor

from congling.quant import ggml
from congling.quant.feedback import codes_by_descent, codes_with_feedback, output_error
from congling.quant.layouts import Layout, layout_of
from congling.quant.unpack import unpack

_ROUNDS = 1
"""How often factors and codes are chosen anew."""


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
