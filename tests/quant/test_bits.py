"""Codes side by side in bytes: what goes in comes out, in as few bytes as there are bits for."""

import pytest
import torch

from congling.core.errors import UserError
from congling.quant.bits import pack_bits, unpack_bits


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (5, 16)])
def test_there_and_back(bits: int, shape: tuple[int, int]):
    codes = torch.randint(0, 2**bits, shape, dtype=torch.uint8)
    packed = pack_bits(codes, bits)
    assert len(packed) == -(-codes.numel() * bits // 8)
    assert torch.equal(unpack_bits(packed, bits, shape), codes)
    with pytest.raises(UserError, match="another number of bytes"):
        unpack_bits(torch.cat([packed, packed]), bits, shape)


def test_the_first_code_is_in_the_lowest_bits():
    assert pack_bits(torch.tensor([1, 2, 3, 15], dtype=torch.uint8), 4).tolist() == [0x21, 0xF3]
