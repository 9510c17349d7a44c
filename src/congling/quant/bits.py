"""Codes of few bits side by side in bytes, the first code in the lowest bits."""

import numpy as np
import torch
from torch import Tensor

from congling.core.errors import UserError


def pack_bits(codes: Tensor, bits: int) -> Tensor:
    """All codes one after the other: uint8 of any shape -> uint8, ⌈codes · bits / 8⌉ bytes."""
    flat = codes.detach().cpu().contiguous().numpy().reshape(-1, 1)
    alone = np.unpackbits(flat, axis=1, count=bits, bitorder="little")
    return torch.from_numpy(np.packbits(alone.reshape(-1), bitorder="little"))


def unpack_bits(packed: Tensor, bits: int, shape: tuple[int, ...]) -> Tensor:
    """The codes again, in a shape.

    Raises:
        UserError: there are more or fewer bytes than codes of this shape take.
    """
    count = int(np.prod(shape, dtype=np.int64))
    if packed.dim() != 1 or len(packed) != (count * bits + 7) // 8:
        what = f"codes of {bits} bits for {' × '.join(map(str, shape))} weights take another number of bytes"
        raise UserError(what, value=tuple(packed.shape))
    alone = np.unpackbits(packed.cpu().numpy(), count=count * bits, bitorder="little").reshape(-1, bits)
    return torch.from_numpy(np.packbits(alone, axis=1, bitorder="little").reshape(shape))
