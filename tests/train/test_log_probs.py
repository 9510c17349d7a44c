"""Log-probabilities of single tokens: chunks change nothing, whatever the output layer is made of."""

from pathlib import Path
from typing import Any

import pytest
import torch

from congling.data.batches import Batch
from congling.interop.foreign import ForeignModel
from congling.interop.gguf import model as gguf_model
from congling.interop.gguf.file import GGUFFile
from congling.interop.gguf.packed import load_packed
from congling.train.objectives import log_probs
from congling.train.objectives.chunks import ChunkSize
from congling.train.objectives.log_probs import score, sums
from congling.transform import lora
from congling.transform.config import AdapterConfig
from support.training_doubles import CONTEXT, VOCABULARY, small_model

ROWS = 40


def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    tokens: Any = torch.randint(0, VOCABULARY, (ROWS, CONTEXT), generator=generator)
    weights: Any = (torch.rand(ROWS, CONTEXT, generator=generator) < 0.6).float()
    return Batch(tokens, tokens.roll(-1, 1), weights, count=1.0)


def tied(tmp_path: Path) -> Any:
    return small_model("gpt2")


def untied(tmp_path: Path) -> Any:
    return small_model("llama", tie_word_embeddings=False)


def packed(tmp_path: Path) -> Any:
    model = small_model("llama", tie_word_embeddings=False, hidden_size=64)
    gguf_model.write(ForeignModel(model.config, model.state_dict()), tmp_path / "base.gguf", "Q8_0")
    loaded = load_packed(GGUFFile.open(tmp_path / "base.gguf"), context=CONTEXT)
    lora.attach(loaded, AdapterConfig(r=2))
    return loaded


def adapted_head(tmp_path: Path) -> Any:
    model = small_model("llama", tie_word_embeddings=False)
    lora.attach(model, AdapterConfig(r=2, target_modules=("all", "head")))
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if ".b." in name:
            parameter.data.normal_(std=0.2)
    assert isinstance(model.output_layer(), lora.AdaptedLinear)
    return model


def plain(model: Any, given: Any, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The same in one piece: log-probabilities and entropies of all logits at once."""
    logits = model.logits(model(given.tokens)).float() / temperature
    spread = torch.log_softmax(logits, -1)
    chosen = spread.gather(-1, given.targets[..., None]).squeeze(-1)
    counts = given.weights > 0
    return chosen[counts], -(spread.exp() * spread).sum(-1)[counts]


def gradients(model: Any, value: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    value.backward()
    return {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("make", [tied, untied, packed, adapted_head])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_chunks_are_one_piece_and_so_are_their_gradients(
    make: Any, temperature: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(log_probs, "CHUNK", ChunkSize({"cpu": 64 * VOCABULARY}, 64))
    model, given = make(tmp_path), batch()
    again = []
    checkpoint = log_probs.checkpoint
    monkeypatch.setattr(
        log_probs, "checkpoint", lambda *args, **more: again.append(1) or checkpoint(*args, **more)
    )
    found = score(model, given, temperature=temperature, entropy=True, learn_entropy=True)
    assert len(again) > 2, "so many tokens are scored in chunks, and again for the gradient"
    wanted, entropy = plain(model, given, temperature)
    torch.testing.assert_close(found.log_probs, wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.entropy, entropy, rtol=1e-5, atol=1e-5)
    pull = torch.linspace(-1, 2, len(wanted))
    ours = gradients(model, (pull * found.log_probs).sum() + 0.3 * found.entropy.sum())
    theirs = gradients(model, (pull * wanted).sum() + 0.3 * entropy.sum())
    assert ours.keys() == theirs.keys() and ours
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-4, atol=1e-4)


def test_what_counts_is_what_has_a_weight():
    model, given = small_model(), batch()
    found = score(model, given)
    assert torch.equal(found.places, given.weights.flatten().nonzero().squeeze(1))
    assert found.hidden.shape == (len(found.places), 32) and not len(found.entropy)
    nothing = score(model, Batch(given.tokens, given.targets, torch.zeros_like(given.weights), count=1.0))
    assert nothing.log_probs.shape == (0,) and nothing.log_probs.requires_grad


def test_entropy_has_a_gradient_only_where_it_is_asked_for():
    model, given = small_model(), batch()
    assert not score(model, given, entropy=True).entropy.requires_grad
    assert score(model, given, entropy=True, learn_entropy=True).entropy.requires_grad


def test_sums_go_to_their_owners():
    found = sums(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([2, 0, 2]), 4)
    assert found.tolist() == [2.0, 0.0, 5.0, 0.0]
