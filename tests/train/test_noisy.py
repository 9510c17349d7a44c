"""NEFTune: the noise of transformers, as large as each text's length says, in training alone."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from congling.model.families import llama
from congling.model.transformer import Transformer
from congling.train.objectives.loss import Loss
from congling.train.objectives.next_token import next_token
from congling.train.objectives.noisy import lengths, neftune

TOKENS = torch.arange(24).view(2, 12)


def batch(**changes: Any) -> Any:
    found = {"tokens": TOKENS, "targets": TOKENS, "weights": None, "positions": None, "documents": None}
    return SimpleNamespace(**found | {"count": float(TOKENS.numel()), "uncounted": None} | changes)


def model() -> Transformer:
    return Transformer(llama(vocab_size=50, max_position_embeddings=16, num_hidden_layers=1, hidden_size=32))


def embedded(of: Any, batch: Any) -> Loss:
    """An objective that shows what the model reads."""
    return Loss(of.embedding(batch.tokens))


def test_the_noise_is_that_of_transformers():
    neftune_of = pytest.importorskip("transformers.integrations.neftune")
    ours, theirs = model().train(), torch.nn.Embedding(50, 32).train()
    theirs.weight = ours.embedding.weight
    theirs.neftune_noise_alpha = 5.0
    theirs.register_forward_hook(neftune_of.neftune_post_forward_hook)
    torch.manual_seed(0)
    expected = theirs(TOKENS)
    torch.manual_seed(0)
    found = neftune(embedded, 5.0)(ours, batch()).total
    assert (found - expected).abs().max() < 1e-6
    assert (found - ours.embedding(TOKENS)).abs().max() > 0.1
    assert not ours.embedding._forward_hooks


def test_each_text_has_noise_of_its_own_length():
    documents = torch.tensor([[0] * 2 + [1] * 9 + [0], [3] * 12])
    expected = [[2.0] * 2 + [9.0] * 9 + [1.0], [12.0] * 12]
    assert lengths(batch(documents=documents)).tolist() == expected
    weights = torch.zeros(2, 12)
    weights[0, 3:7] = 1
    assert lengths(batch(weights=weights))[:, 0].tolist() == [7.0, 1.0]
    assert lengths(batch()).unique().tolist() == [12.0]
    ours = model().train()
    noise = neftune(embedded, 5.0)(ours, batch(documents=documents)).total - ours.embedding(TOKENS)
    bound = 5.0 / (torch.tensor(expected) * 32).sqrt()
    assert (noise.abs().amax(-1) <= bound).all() and (noise.abs().amax(-1) > 0.5 * bound).all()


def test_training_alone_is_noisy_and_a_step_always_alike():
    ours = model()
    losses = []
    for training, seed in ((True, 1), (True, 1), (True, 2), (False, 1)):
        torch.manual_seed(seed)
        losses.append(neftune(next_token, 5.0)(ours.train(training), batch()).total.item())
    assert losses[0] == losses[1] != losses[2]
    assert losses[3] == next_token(ours.eval(), batch()).total.item()


def test_an_objective_that_fails_leaves_no_noise_behind():
    def broken(of: Any, batch: Any) -> Loss:
        raise ValueError

    ours = model().train()
    with pytest.raises(ValueError):
        neftune(broken, 5.0)(ours, batch())
    assert not ours.embedding._forward_hooks
