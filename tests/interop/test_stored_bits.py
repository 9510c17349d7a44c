"""Bits of stored weights: what files hold, part by part, and damaged headers."""

import pytest

from congling.core.errors import UserError
from congling.interop.stored_bits import part_of, stored_bits
from congling.methods import conversion
from support import tiny_checkpoint


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("embedding.weight", "embedding"),
        ("token_embd.weight", "embedding"),
        ("head.weight", "output"),
        ("blocks.1.attention.query.weight", "attention"),
        ("blk.1.attn_q.weight", "attention"),
        ("blocks.1.attention.query_norm.weight", "norms and others"),
        ("blk.1.attn_q_norm.weight", "norms and others"),
        ("blocks.1.mlp.up.weight", "mlp"),
        ("blk.1.ffn_up.weight", "mlp"),
        ("blk.1.ffn_norm.weight", "norms and others"),
        ("output_norm.weight", "norms and others"),
        ("norm.weight", "norms and others"),
    ],
)
def test_tensors_belong_to_parts(name, part):
    assert part_of(name) == part


def test_a_checkpoint_and_a_file_are_counted_to_the_byte(tmp_path):
    base = tiny_checkpoint.write(tmp_path / "base", family="llama")
    conversion.run(base, "gguf", tmp_path / "q8.gguf", type="Q8_0", verify=False)
    own, file = stored_bits(base), stored_bits(tmp_path / "q8.gguf")
    assert own.file_bytes == (base / "model.safetensors").stat().st_size
    weights = {part: size // 4 for part, size in own.tensor_bytes.items()}
    assert own.bits(sum(weights.values())) == 32
    for part in ("attention", "mlp"):
        assert 8 * file.tensor_bytes[part] == 8.5 * weights[part]
    assert file.tensor_bytes["norms and others"] == own.tensor_bytes["norms and others"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        b"\x02\0\0\0\0\0\0\0[]",
        b'\x0c\0\0\0\0\0\0\0{"a":{"b":1}}',
        b'\x07\0\0\0\0\0\0\0{"a":1}',
    ],
)
def test_a_damaged_header_is_one_error(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="damaged or no safetensors file"):
        stored_bits(tmp_path)
