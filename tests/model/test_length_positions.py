"""Positions that depend on the text's length: one function, however a text is read."""

import math
from typing import Any

import pytest
import torch

from congling.model.attention import LengthAttention
from congling.model.cache import KVCache
from congling.model.clex import ClexPositions
from congling.model.config import ModelConfig
from congling.model.families import llama, qwen3
from congling.model.frequencies import frequencies_at, rotary_frequencies
from congling.model.rope_scaling import ntk_theta
from congling.model.transformer import Transformer

L, WIDTH, HEADS, D = 16, 64, 2, 32
LENGTHS = (L - 1, L, L + 1, 2 * L + 3, 8 * L)
KINDS: dict[str, dict[str, Any]] = {
    "dynamic": {"rope_type": "dynamic", "factor": 2.0, "original_max_position_embeddings": L},
    "longrope": {
        "rope_type": "longrope",
        "factor": 8.0,
        "original_max_position_embeddings": L,
        "short_factor": (1.0,) * (D // 2),
        "long_factor": tuple(1.0 + 0.5 * pair for pair in range(D // 2)),
    },
    "clex": {"rope_type": "clex", "max_factor": 6, "original_max_position_embeddings": L},
}


def _model(kind: str, family: Any = qwen3, **changes: Any) -> Transformer:
    config: ModelConfig = family(
        vocab_size=96,
        max_position_embeddings=16 * L,
        num_hidden_layers=2,
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        head_dim=D,
    )
    config = config.replace(positions={"rope_scaling": KINDS[kind]}, **changes)
    model = Transformer(config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                scale = 0.02 if name == "positions.down" else 1.2 / math.sqrt(parameter.shape[1])
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return model


def _ids(length: int, seed: int = 2) -> torch.Tensor:
    return torch.randint(0, 96, (1, length), generator=torch.Generator().manual_seed(seed))


def _in_pieces(model: Transformer, ids: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    cache = KVCache(model.config, 1, ids.shape[1])
    return torch.cat([model(piece, cache=cache) for piece in ids.split(sizes, 1)], 1)


@pytest.mark.parametrize(
    ("kind", "family"), [("dynamic", llama), ("longrope", qwen3), ("clex", qwen3)], ids=list(KINDS)
)
@torch.no_grad()
def test_a_text_is_read_alike_as_a_whole_in_pieces_and_one_by_one(kind: str, family: Any) -> None:
    model = _model(kind, family)
    for length in LENGTHS:
        ids = _ids(length)
        whole = model.logits(model(ids))
        one_by_one = model.logits(_in_pieces(model, ids, [1] * length))
        uneven = model.logits(_in_pieces(model, ids, [5] * (length // 5) + [length % 5] * (length % 5 > 0)))
        assert (one_by_one - whole).abs().max() <= 1e-5
        assert (uneven - whole).abs().max() <= 1e-5
    assert any(isinstance(module, LengthAttention) for module in model.modules())


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_padded_rows_of_unequal_length_read_as_they_do_alone(kind: str) -> None:
    model = _model(kind)
    rows = [_ids(length, seed=length) for length in LENGTHS]
    longest = max(LENGTHS)
    padded = torch.cat([torch.nn.functional.pad(row, (longest - row.shape[1], 0)) for row in rows])
    start = torch.tensor([longest - length for length in LENGTHS])
    more = torch.randint(0, 96, (len(rows), 4), generator=torch.Generator().manual_seed(3))
    cache = KVCache(model.config, len(rows), longest + 4, start=start)
    parts = [model(padded, cache=cache), model(more[:, :3], cache=cache), model(more[:, 3:], cache=cache)]
    found = torch.cat(parts, 1)
    for row, ids in enumerate(rows):
        alone = model(torch.cat((ids, more[row : row + 1]), 1))
        own = found[row, longest - ids.shape[1] :]
        assert (model.logits(own) - model.logits(alone[0])).abs().max() <= 1e-5


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_short_text_after_a_long_one_is_the_same_to_the_bit(kind: str) -> None:
    model = _model(kind)
    short = _ids(L + 3)
    first = model(short)
    model(_ids(8 * L, seed=9))
    assert torch.equal(model(short), first)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_texts_packed_into_one_row_read_as_they_do_alone(kind: str) -> None:
    model = _model(kind)
    texts = [_ids(length, seed=length) for length in (L + 5, 2 * L + 1, 7)]
    lengths = [text.shape[1] for text in texts]
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    documents = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))[None]
    packed = model(torch.cat(texts, 1), positions=positions, documents=documents)
    for text, found in zip(texts, packed.split(lengths, 1), strict=True):
        assert (model.logits(found) - model.logits(model(text))).abs().max() <= 1e-5


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_within_the_trained_length_nothing_is_changed_but_by_a_magnitude(kind: str) -> None:
    model = _model(kind)
    scaling: dict[str, Any] | None = None
    if kind == "longrope":  # both factors are 1 there, and its magnitude holds at all lengths
        scaling = KINDS[kind] | {"long_factor": KINDS[kind]["short_factor"]}
    plain = Transformer(model.config.replace(positions={"rope_scaling": scaling})).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    ids = _ids(L)
    assert (model(ids) - plain(ids)).abs().max() <= 1e-5
    longer = _ids(2 * L)
    assert (model(longer) - plain(longer)).abs().max() > 0.1


def test_known_answers_of_dynamic_ntk() -> None:
    config = _model("dynamic").config.positions
    assert config.kind == "rope"
    scaling = {"rope_type": "dynamic", "factor": 4.0, "original_max_position_embeddings": 256}
    positions = config.replace(rope_theta=1e4, rope_scaling=scaling)
    found = frequencies_at(positions, 64, torch.tensor([100, 256, 1024])).double()
    bases = found[:, 1] ** -32  # the second pair is base^(-2/64)
    assert bases.tolist() == pytest.approx([1e4, 1e4, 141213.8], rel=1e-5)
    assert ntk_theta(1e4, 4.0, 64) == pytest.approx(41829.4, rel=1e-5)


def test_untrained_clex_is_ntk_aware_scaling_at_every_t() -> None:
    config = _model("clex").config
    positions = ClexPositions(config.positions, D)  # type: ignore[arg-type]
    torch.nn.init.normal_(positions.up)
    curve = positions.curve(6)
    for t in range(1, 7):
        theta = ntk_theta(config.positions.rope_theta, 2 * t - 1, D)  # type: ignore[union-attr]
        wanted = rotary_frequencies(config.positions.replace(rope_theta=theta, rope_scaling=None), D)  # type: ignore[arg-type]
        assert (curve[t - 1] / wanted - 1).abs().max() <= 1e-6


def test_the_curve_of_clex_needs_no_finer_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    config = _model("clex").config
    scaling = KINDS["clex"] | {"max_factor": 16}
    positions = ClexPositions(config.positions.replace(rope_scaling=scaling), D)  # type: ignore[arg-type]
    torch.manual_seed(0)
    torch.nn.init.normal_(positions.up, std=D**-0.5)
    torch.nn.init.normal_(positions.down, std=0.02)
    coarse = positions.curve(16)
    monkeypatch.setattr("congling.model.clex.STEP", 3.5 / 256)
    fine = positions.curve(16)
    assert (coarse / fine - 1).abs().max() <= 1e-4
    assert (fine[-1] / positions.curve(1)[0] - 1).abs().max() > 0.01


def test_clex_learns_with_finite_gradients() -> None:
    model = _model("clex").train()
    model.initialise(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(12):
        ids = _ids(6 * L, seed=step)
        loss = torch.nn.functional.cross_entropy(model.logits(model(ids))[0, :-1], ids[0, 1:])
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        optimizer.step()
        optimizer.zero_grad()
    assert isinstance(model.positions, ClexPositions)
    assert model.positions.down.abs().max() > 0
