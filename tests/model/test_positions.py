"""Positions: frequencies against their published definitions, linear biases against a plain computation."""

import math

import pytest
import torch

from congling.model.cache import KVCache
from congling.model.config import RotaryConfig
from congling.model.families import FAMILIES
from congling.model.frequencies import rotary_frequencies
from congling.model.positions import alibi_slopes
from congling.model.rope_scaling import LinearScaling, Llama3Scaling
from congling.model.transformer import Transformer


def test_linear_scaling_divides_every_frequency():
    plain = rotary_frequencies(RotaryConfig(), 64)
    scaled = rotary_frequencies(RotaryConfig(rope_scaling=LinearScaling(factor=4.0)), 64)
    torch.testing.assert_close(scaled, plain / 4)


def test_llama3_scaling_keeps_fast_channels_and_divides_slow_ones():
    scaling = Llama3Scaling(factor=8.0, original_max_position_embeddings=8192)
    plain = rotary_frequencies(RotaryConfig(rope_theta=500_000.0), 128)
    scaled = rotary_frequencies(RotaryConfig(rope_theta=500_000.0, rope_scaling=scaling), 128)
    ratio = (plain / scaled).tolist()
    for i, frequency in enumerate(plain.tolist()):
        length = 2 * math.pi / frequency  # of one turn, in tokens
        if length < 8192 / 4:
            assert ratio[i] == pytest.approx(1)
        elif length > 8192:
            assert ratio[i] == pytest.approx(8)
        else:
            assert 1 < ratio[i] < 8
    assert ratio == sorted(ratio) and ratio[0] == 1 and ratio[-1] == 8


def test_slopes_for_powers_of_two_and_between():
    assert alibi_slopes(8) == [2.0**-n for n in range(1, 9)]
    assert alibi_slopes(40)[:32] == [2 ** (-(n + 1) / 4) for n in range(32)]
    assert alibi_slopes(40)[32:] == [2 ** (-(2 * n + 1) / 8) for n in range(8)]
    assert len(alibi_slopes(40)) == 40 and alibi_slopes(1) == [2.0**-8]


def test_attention_with_linear_biases_equals_the_plain_computation():
    model = Transformer(
        FAMILIES["baichuan"](
            vocab_size=61,
            max_position_embeddings=32,
            num_hidden_layers=1,
            hidden_size=96,
            num_attention_heads=3,
            num_key_value_heads=3,
        )
    )
    attention = model.blocks[0].attention
    torch.manual_seed(0)
    torch.nn.init.normal_(attention.output.weight)  # pyright: ignore
    ids = torch.randint(0, 61, (1, 9))
    x = model.blocks[0].attention_norm(model.embedding(ids))[0]  # pyright: ignore
    mixed = []
    for head, slope in enumerate([2.0**-4, 2.0**-8, 2.0**-2]):  # three heads: two of the series, one between
        rows = slice(32 * head, 32 * head + 32)
        parts = (attention.query, attention.key, attention.value)  # pyright: ignore
        query, key, value = (x @ part.weight[rows].T for part in parts)
        scores = query @ key.T / 32**0.5
        for i in range(9):
            scores[i] += slope * (torch.arange(9) - i)
            scores[i, i + 1 :] = float("-inf")
        mixed.append(scores.softmax(-1) @ value)
    expected = model.embedding(ids)[0] + torch.cat(mixed, -1) @ attention.output.weight.T  # pyright: ignore
    torch.testing.assert_close(model(ids)[0], model.norm(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_linear_biases_work_in_reduced_precision_with_a_cache(dtype: torch.dtype):
    config = FAMILIES["baichuan"](
        vocab_size=61,
        max_position_embeddings=32,
        num_hidden_layers=1,
        hidden_size=64,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = Transformer(config).to(dtype)
    ids = torch.randint(0, 61, (2, 9))
    cache = KVCache(config, 2, 9, dtype=dtype)
    steps = torch.cat([model(part, cache=cache) for part in ids.split((5, 3, 1), dim=1)], 1)
    assert steps.dtype == dtype
    torch.testing.assert_close(steps, model(ids), atol=0.05, rtol=0.02)
    with torch.autocast("cpu", torch.bfloat16):
        assert model(ids).isfinite().all()
