"""The skeleton: causality, documents, caches, gradients, initial weights, checkpointing, balance."""

from typing import Any

import pytest
import torch

from congling.core.errors import UserError
from congling.model.cache import KVCache
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer

SIZES: dict[str, Any] = {
    "vocab_size": 61,
    "max_position_embeddings": 32,
    "num_hidden_layers": 2,
    "hidden_size": 64,
}


def built(family: str, **changes: Any) -> Transformer:
    """A small model in which every weight matters."""
    model = Transformer(FAMILIES[family](**{**SIZES, **changes})).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.15
            parameter.copy_(noise + ("norm.weight" in name))
    return model


def tokens(rows: int = 2, time: int = 12) -> torch.Tensor:
    return torch.randint(0, 61, (rows, time), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_future_does_not_reach_the_past(family: str):
    model, ids = built(family), tokens()
    before = model(ids)
    ids[:, 7:] = (ids[:, 7:] + 1) % 61
    after = model(ids)
    torch.testing.assert_close(before[:, :7], after[:, :7])
    assert (before[:, 7:] - after[:, 7:]).abs().max() > 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_documents_see_only_themselves(family: str):
    model, ids = built(family), tokens(rows=1)
    documents = torch.tensor([[0] * 5 + [1] * 7])
    positions = torch.cat((torch.arange(5), torch.arange(7)))[None]
    packed = model(ids, positions=positions, documents=documents)
    apart = torch.cat((model(ids[:, :5]), model(ids[:, 5:])), dim=1)
    torch.testing.assert_close(packed, apart, atol=1e-5, rtol=1e-5)


def test_rotary_positions_are_relative():
    model, ids = built("llama"), tokens(rows=1)
    shifted = model(ids, positions=torch.arange(9, 21)[None])
    torch.testing.assert_close(shifted, model(ids), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_unequal_length_share_a_cache(family: str):
    model, ids = built(family), tokens(rows=1, time=10)
    padded = torch.cat((torch.cat((torch.zeros(1, 3, dtype=torch.long), ids[:, :7]), 1), ids), 0)
    cache = KVCache(model.config, 2, 10, start=torch.tensor([3, 0]))
    together = torch.cat([model(part, cache=cache) for part in padded.split((6, 3, 1), dim=1)], 1)
    torch.testing.assert_close(together[0, 3:], model(ids[:, :7])[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together[1], model(ids)[0], atol=1e-5, rtol=1e-5)
    assert together.isfinite().all()


def test_a_cache_beyond_the_context_is_refused():
    with pytest.raises(UserError, match="at most 32 tokens"):
        KVCache(FAMILIES["qwen3"](**SIZES), 1, 33)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_gets_a_gradient_and_checkpointing_changes_none(family: str):
    model, ids = built(family, dropout=0.1).train(), tokens(rows=4, time=16)

    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        torch.manual_seed(5)
        (model.logits(model(ids)).square().mean() + model.balance_loss()).backward()
        found = {name: parameter.grad for name, parameter in model.named_parameters()}
        assert all(gradient is not None for gradient in found.values())
        return {name: gradient.clone() for name, gradient in found.items() if gradient is not None}

    plain = gradients()
    model.checkpoint_blocks()
    for name, gradient in gradients().items():
        torch.testing.assert_close(gradient, plain[name], msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_initial_weights_depend_on_the_seed_alone(family: str):
    config = FAMILIES[family](**SIZES)
    first, second, other = Transformer(config), Transformer(config), Transformer(config)
    for model, seed in ((first, 3), (second, 3), (other, 4)):
        torch.rand(7)  # what happens elsewhere must not matter
        model.initialise(seed)
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)
    assert not torch.equal(first.embedding.weight, other.embedding.weight)


def test_zero_output_blocks_start_as_the_identity():
    model, ids = Transformer(FAMILIES["qwen3"](**SIZES)), tokens()
    torch.testing.assert_close(model(ids), model.norm(model.embedding(ids)))
    assert model.blocks[0].mlp.gate.weight.std().item() == pytest.approx(64**-0.5, rel=0.05)  # pyright: ignore


def test_gpt2_outputs_shrink_with_depth():
    model = Transformer(FAMILIES["gpt2"](**{**SIZES, "num_hidden_layers": 8}))
    assert model.blocks[0].mlp.up.weight.std().item() == pytest.approx(0.02, rel=0.05)  # pyright: ignore
    assert model.blocks[0].mlp.down.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)  # pyright: ignore


def test_tied_embeddings_are_one_matrix():
    tied, untied = (
        Transformer(FAMILIES["qwen3"](**SIZES, tie_word_embeddings=tied)) for tied in (True, False)
    )
    assert tied.output_layer() is tied.embedding and "head.weight" not in tied.state_dict()
    assert untied.output_layer() is untied.head


@pytest.mark.parametrize("family", ["qwen3", "gpt2"])
def test_a_small_model_learns_a_sequence_by_heart(family: str):
    model, ids = Transformer(FAMILIES[family](**SIZES)), tokens(rows=1, time=16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        logits = model.logits(model(ids[:, :-1]))
        loss = torch.nn.functional.cross_entropy(logits[0], ids[0, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 3.5 and losses[-1] < 0.5
