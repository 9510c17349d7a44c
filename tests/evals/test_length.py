import math

import numpy as np
import pytest
import torch

from congling.evals.length import tail_losses
from congling.infer.checkpoints import Loaded
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from support.looking_back import SURE, LookingBack

VOCABULARY = 50
KNOWN, UNKNOWN = -math.log(SURE), math.log(VOCABULARY)


def shape(context: int = 64, **changes: object):
    small = {
        "vocab_size": VOCABULARY,
        "max_position_embeddings": context,
        "num_hidden_layers": 1,
        "hidden_size": 32,
        "num_attention_heads": 2,
    }
    return FAMILIES["qwen3"](**small).replace(**changes)  # type: ignore[arg-type]


def repeating(period: int, length: int, seed: int = 0) -> np.ndarray:
    """Ids that return after ``period``."""
    return np.resize(np.random.default_rng(seed).permutation(VOCABULARY)[:period], length)


def test_a_block_costs_what_the_model_can_see():
    # With n tokens read, target j of n stands behind j + 1 of them: the id 24 before is seen from 23 on.
    model = LookingBack(shape(), 24)
    texts = [repeating(24, 65, seed) for seed in range(5)]
    found = tail_losses(model, texts, [8, 16, 24, 28, 32, 64], 8, rows=2)
    unseen = [8, 8, 7, 3, 0, 0]  # of the last 8 predictions, those behind fewer than 24 tokens
    expected = [(none * UNKNOWN + (8 - none) * KNOWN) / 8 for none in unseen]
    assert found == pytest.approx(np.tile(expected, (5, 1)), abs=1e-6)


def test_only_the_last_tokens_are_read(loaded: Loaded):
    random = np.random.default_rng(0)
    texts = [random.integers(3, loaded.tokenizer.vocab_size, size) for size in (33, 40, 65, 200)]
    found = tail_losses(loaded.model, texts, [8, 32], 8)
    changed = [np.concatenate([np.full(50, 3), text[-33:]]) for text in texts]
    assert tail_losses(loaded.model, changed, [8, 32], 8) == pytest.approx(found, abs=1e-6)
    for text, row in zip(texts, found, strict=True):
        for n, value in zip((8, 32), row, strict=True):
            ids = torch.from_numpy(text[-n - 1 :].copy())
            with torch.inference_mode():
                logits = loaded.model.eval().logits(loaded.model(ids[None, :-1]))[0]
            alone = torch.nn.functional.cross_entropy(logits[-8:], ids[-8:])
            assert value == pytest.approx(float(alone), abs=1e-5)


@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "dynamic", "factor": 4, "original_max_position_embeddings": 16},
        {"rope_type": "clex", "original_max_position_embeddings": 16},
        {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 16},
    ],
)
def test_rows_read_together_lose_what_they_lose_alone(scaling: dict[str, object]):
    model = Transformer(shape(positions={"rope_scaling": scaling}))
    torch.manual_seed(0)
    for parameter in model.blocks.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.2)
    texts = np.random.default_rng(1).integers(0, VOCABULARY, (5, 65))
    together = tail_losses(model, list(texts), [4, 16, 64], 4, rows=5)
    alone = [tail_losses(model, [text], [4, 16, 64], 4, rows=1)[0] for text in texts]
    assert together == pytest.approx(np.stack(alone), abs=1e-5)
    assert np.ptp(together, axis=1).min() > 1e-4  # what stands before matters to it


@pytest.mark.parametrize("lengths", [[4], [65], [0], [8, 128]])
def test_a_length_out_of_bounds_is_refused(lengths: list[int]):
    with pytest.raises(ValueError, match="block 8 and context 64"):
        tail_losses(LookingBack(shape(), 2), [repeating(5, 200)], lengths, 8)


def test_a_text_too_short_is_refused_and_none_is_nothing():
    model = LookingBack(shape(), 2)
    with pytest.raises(ValueError, match="a text of 64 ids where 65"):
        tail_losses(model, [repeating(5, 65), repeating(5, 64)], [8, 64], 8)
    assert tail_losses(model, [repeating(5, 65)], [8, 64], 8).shape == (1, 2)
    assert tail_losses(model, [], [8], 8).shape == (0, 1)


def test_the_training_flag_comes_back():
    model = LookingBack(shape(), 2).train()
    tail_losses(model, [repeating(5, 65)], [8], 8)
    assert model.training
