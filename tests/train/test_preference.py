"""Preference losses: what packing, cutting into micro-batches and certainty must not change."""

from typing import Any

import numpy as np
import pytest
import torch

from congling.data.tuning.examples import Example
from congling.data.tuning.pair_batches import (
    PairBatch,
    PairBatches,
    Rated,
    RatedBatches,
    SequenceBatch,
    batched,
)
from congling.train.backends.single import Single
from congling.train.loop import Trainer
from congling.train.objectives.config import PreferenceConfig
from congling.train.objectives.preference import pair_losses, preference, sequence_sums
from congling.train.objectives.reward import BradleyTerry
from congling.train.rl.reference import Reference, reference_sums
from congling.transform import lora
from congling.transform.config import AdapterConfig
from congling.transform.scalar_head import attach_head
from support.training_doubles import CONTEXT, VOCABULARY, settings, small_model

PLACE = Single(settings()).to_device


def examples(count: int, seed: int = 1) -> list[Example]:
    random, found = np.random.default_rng(seed), []
    for _ in range(count):
        ids = random.integers(0, VOCABULARY, random.integers(3, CONTEXT + 2)).astype(np.int32)
        learnt = np.arange(len(ids)) >= random.integers(1, len(ids))
        found.append(Example(ids, learnt, 0, "rows:1"))
    return found


def pairs(count: int = 8) -> list[tuple[Example, Example]]:
    return list(zip(examples(count, 1), examples(count, 2), strict=True))


def moved(model: Any) -> Any:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


def test_packing_several_answers_into_a_row_changes_nothing():
    model, rows = small_model().eval(), examples(9)
    together = PLACE(batched(SequenceBatch, rows, CONTEXT, 0))
    assert together.tokens.shape[0] < 9
    sums, lengths = sequence_sums(model, together)
    for i, one in enumerate(rows):
        alone = sequence_sums(model, PLACE(batched(SequenceBatch, [one], CONTEXT, 0)))
        torch.testing.assert_close(sums[i : i + 1], alone[0], rtol=1e-5, atol=1e-5)
        assert lengths[i] == alone[1] == one.targets


@pytest.mark.parametrize("loss", ["dpo", "ipo", "orpo", "simpo"])
def test_four_micro_batches_are_one(loss: str):
    config, weights, losses = PreferenceConfig(loss_type=loss), [], []
    rows = pairs()
    flat = [one for pair in rows for one in pair]
    for each in (8, 2):
        model = small_model()
        reference = reference_sums(moved(small_model()), flat, context=CONTEXT, pad=0, place=PLACE)
        batches = PairBatches(
            rows, context=CONTEXT, rows=each, accumulation=8 // each, seed=0, pad=0, reference=reference
        )
        trainer = Trainer(model, batches, preference(config), settings(max_steps=2), Single(settings()))
        seen = []
        trainer.run([lambda one, seen=seen: seen.append({k: float(v) for k, v in one.step_metrics.items()})])
        weights.append(model.state_dict())
        losses.append(seen)
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-4, atol=2e-6)
    for ours, theirs in zip(*losses, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)


def test_a_reference_of_a_copy_is_that_of_the_adapter_switched_off():
    model = small_model()
    batch = PLACE(batched(SequenceBatch, examples(5), CONTEXT, 0))
    before = Reference(model)
    first = before(batch, 0.8)
    lora.attach(model, AdapterConfig(r=2, lora_dropout=0.5))
    model.train()
    off = Reference(model)
    for name, parameter in model.named_parameters():
        if ".b." in name:
            parameter.data.normal_()
    torch.testing.assert_close(off(batch, 0.8), first)
    assert model.training and set(lora.strengths(model).values()) == {1.0}
    assert not torch.allclose(sequence_sums(model.eval(), batch)[0], first.new_zeros(5))
    for parameter in model.parameters():
        parameter.data.zero_()
    torch.testing.assert_close(before(batch, 0.8), first)


def test_orpo_is_finite_where_an_answer_is_certain():
    found = torch.tensor([0.0, -20.0, -1e-9, -3.0, -4.0, -0.0], requires_grad=True)
    losses, _ = pair_losses(PreferenceConfig(loss_type="orpo"), found, torch.ones(6), None)
    losses.sum().backward()
    assert found.grad is not None
    assert losses.isfinite().all() and found.grad.isfinite().all()


def test_each_loss_prefers_the_better_answer():
    """A step against the gradient raises the better answer over the worse one."""
    found = torch.tensor([-6.0, -5.0], requires_grad=True)
    for loss in ("dpo", "ipo", "orpo", "simpo"):
        (value,), _ = pair_losses(
            PreferenceConfig(loss_type=loss), found, torch.tensor([4.0, 5.0]), torch.zeros(2)
        )
        better, worse = torch.autograd.grad(value, found)[0].tolist()
        assert better < 0 < worse, loss


@pytest.mark.parametrize("good", [True, False])
def test_kto_lifts_good_answers_and_sinks_bad_ones(good: bool):
    rated = [Rated(one, good) for one in examples(4)]
    model, others = small_model(), examples(4, 2)
    flat = [*(one.example for one in rated), *others]
    reference = reference_sums(model, flat, context=CONTEXT, pad=0, place=PLACE)
    batches = RatedBatches(
        rated, others, context=CONTEXT, rows=4, accumulation=1, seed=0, pad=0, reference=reference
    )
    objective = preference(PreferenceConfig(loss_type="kto"))
    trainer = Trainer(model, batches, objective, settings(max_steps=6), Single(settings()))
    rows: list[Any] = []
    trainer.run([lambda one: rows.append(one.step_metrics)])
    assert float(rows[0]["loss"]) == pytest.approx(0.5, abs=1e-5)
    assert float(rows[-1]["loss"]) < 0.5
    assert float(rows[-1]["chosen"]) > 0 if good else float(rows[-1]["rejected"]) < 0


def test_a_reward_model_tells_pairs_apart_and_keeps_rewards_around_zero():
    model = small_model()
    attach_head(model, 1)
    rows = pairs(4)
    ends: Any = [
        tuple(
            Example(one.input_ids, np.arange(len(one.input_ids)) == len(one.input_ids) - 1, 0, "")
            for one in pair
        )
        for pair in rows
    ]
    batches = PairBatches(ends, context=CONTEXT, rows=4, accumulation=1, seed=0, pad=0, reference=None)
    trainer = Trainer(model, batches, BradleyTerry(0.01), settings(max_steps=20), Single(settings()))
    seen: list[Any] = []
    trainer.run([lambda one: seen.append(one.step_metrics)])
    assert float(seen[-1]["accuracy"]) == 1.0 and float(seen[-1]["loss"]) < 0.5 * float(seen[0]["loss"])
    assert isinstance(PLACE(batches(0)[0]), PairBatch)
