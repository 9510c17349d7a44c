"""What weighs the same in a loss, a token or an answer: exact however rows are packed, cut and shared out."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from congling.data.tuning.examples import Example, ExampleBatches, answers_of, targets_of
from congling.evals.answers import held_out_loss
from congling.model.families import llama
from congling.model.transformer import Transformer
from congling.train.backends.single import Single
from congling.train.config import TrainConfig

NATS = np.random.default_rng(5).random(400)
"""What each target costs, by its id."""


def talks() -> list[Example]:
    """Conversations with answers of very unlike length; ids are all different."""
    found, first = [], 0
    for shape in ([3, 1], [2, 30], [4, 2, 3, 1, 2, 7], [1, 12], [5, 1, 1, 1], [2, 3], [9, 2]):
        learnt = np.concatenate([np.full(size, bool(place % 2)) for place, size in enumerate(shape)])
        ids = np.arange(first, first := first + len(learnt), dtype=np.int32)
        found.append(Example(ids, learnt, 0, ""))
    return found


def by_answer() -> list[list[int]]:
    """The ids of each answer."""
    return [
        list(part)
        for one in talks()
        for part in np.split(one.input_ids, np.flatnonzero(np.diff(one.loss_mask)) + 1)[1::2]
    ]


def test_answers_are_counted():
    assert answers_of(talks()) == len(by_answer()) == 10
    assert targets_of(talks()) == sum(map(len, by_answer()))
    whole = Example(np.arange(9, dtype=np.int32), np.ones(9, bool), 0, "")
    assert whole.answers == 1 and whole.weights(3.0).tolist() == [3 / 8] * 8


@pytest.mark.parametrize("context", [40, 70, 200])
@pytest.mark.parametrize("cut", [(8, 1, 1), (1, 8, 1), (2, 4, 1), (4, 2, 2), (1, 8, 2)])
def test_every_answer_weighs_the_same_however_a_step_is_cut(context: int, cut: tuple[int, int, int]):
    rows, accumulation, world = cut
    given = talks()
    batches = ExampleBatches(given, context=context, rows=rows, accumulation=accumulation, reduction="answer")
    # As many steps as pass over all rows equally often: then each answer was met as often as any other.
    steps = len(batches.packed)
    nats = count = 0.0
    for step in range(steps):
        for batch in (one for rank in range(world) for one in batches(step, rank, world)):
            assert batch.weights is not None and batch.count == pytest.approx(float(batch.weights.sum()))
            nats, count = nats + float((batch.weights * NATS[batch.targets]).sum()), count + batch.count
    assert nats / count == pytest.approx(np.mean([NATS[ids].mean() for ids in by_answer()]), rel=1e-5)
    passes = steps * rows * accumulation / len(batches.packed)
    assert count == pytest.approx(passes * targets_of(given), rel=1e-5)  # tokens are counted as ever


def test_held_out_loss_is_told_by_token_and_by_answer():
    given = talks()
    model = Transformer(
        llama(vocab_size=128, max_position_embeddings=64, num_hidden_layers=1, hidden_size=32)
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.3)
    each, means = [], []
    for one in given:
        ids = torch.from_numpy(one.input_ids.astype(np.int64))[None]
        nats = cross_entropy(model.logits(model(ids[:, :-1]))[0], ids[0, 1:], reduction="none").detach()
        parts = np.split(nats.numpy(), np.flatnonzero(np.diff(one.loss_mask[1:])) + 1)
        learnt = parts[0 if one.loss_mask[1] else 1 :: 2]
        each += [value for part in learnt for value in part]
        means += [part.mean() for part in learnt]
    settings = TrainConfig(max_steps=1, max_length=64, per_device_train_batch_size=2, device="cpu")
    found = held_out_loss(given, settings, Single(settings))(model)
    assert found["loss"] == pytest.approx(np.mean(each), rel=1e-4)
    assert found["loss_per_answer"] == pytest.approx(np.mean(means), rel=1e-4)
    assert abs(found["loss"] - found["loss_per_answer"]) > 0.01
