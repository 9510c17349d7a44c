"""Losses that leave their course are named within five steps, and ordinary ones never are."""

import json
import math
import random
from pathlib import Path

import pytest

from congling.train.runs.spikes import ROWS, SpikeDetector

RECORDED = json.loads(Path(__file__).with_name("recorded_losses.json").read_text())
"""Losses of the two example recipes, step by step."""


def rows(losses, **more):
    return [{"step": step, "loss": loss} | more for step, loss in enumerate(losses, start=1)]


def found(losses, **options):
    return SpikeDetector(**options).read(rows(losses))


def descent(steps=300, first=9.0, last=3.0, noise=0.03, seed=0, kind="gauss"):
    """A loss that falls, with noise in proportion; ``rows`` is that of very small batches."""
    draw = random.Random(f"{seed} {kind}")
    factors = {
        "gauss": lambda: 1 + noise * draw.gauss(0, 1),
        "rows": lambda: math.exp(draw.gauss(0, 0.5)),
        "two kinds": lambda: draw.choice((0.4, 0.4, 1.0, 1.6)),
    }
    level = [last + (first - last) * math.exp(-step / 60) for step in range(steps)]
    return [min(14.0, max(0.0, one * factors[kind]())) for one in level]


@pytest.mark.parametrize("recipe", RECORDED)
def test_the_example_recipes_raise_no_alarm(recipe):
    assert len(RECORDED[recipe]) > 500
    assert found(RECORDED[recipe]) == []


@pytest.mark.parametrize("recipe", RECORDED)
@pytest.mark.parametrize("factor", [2.5, 10.0, 700.0])
def test_a_rise_anywhere_in_them_is_named_within_five_steps(recipe, factor):
    losses, draw = RECORDED[recipe], random.Random(f"{recipe} {factor}")
    for at in draw.sample(range(8, len(losses) - 5), 12):
        broken = [loss * factor if at <= step < at + 5 else loss for step, loss in enumerate(losses)]
        first = found(broken)[0]
        assert at < first.step <= at + 5, (at, first)
        assert first.onset == at + 1 and first.value > 2 * first.usual


@pytest.mark.parametrize("kind", ["gauss", "rows", "two kinds"])
@pytest.mark.parametrize("last", [0.02, 1.0, 3.0])
def test_noise_of_any_size_raises_no_alarm(kind, last):
    for seed in range(6):
        assert found(descent(last=last, seed=seed, kind=kind)) == []


def test_a_bump_of_the_warm_up_and_a_plateau_raise_none():
    bump = [8.4, 8.4, 8.5, 8.9, 9.4, 9.6, 9.3, 8.8, 8.1, 7.5, *descent(first=7.2)]
    assert found(bump) == []
    assert found([4.1 + 0.01 * (step % 7) for step in range(200)]) == []


def test_one_step_of_a_broken_rate_is_enough():
    losses = [*descent(60), 3629.0, 2100.0, 900.0, *descent(100)[60:]]
    (first,) = found(losses)
    assert (first.step, first.onset, first.value, first.code) == (61, 61, 3629.0, "loss-spike")
    assert "the loss rose from" in first.what and "3629" in first.what


def test_a_single_hard_row_of_pairs_is_none_but_several_are():
    losses = [0.69 * math.exp(-step / 40) + 0.01 for step in range(100)]
    hard = [*losses, 9.0, *(6 * losses[-5:])]
    assert found(hard, text=False) == [] and len(found(hard)) == 1
    (first,) = found([*losses, 9.0, 9.5, 8.0, *(6 * losses[-5:])], text=False)
    assert first.step == 103 and first.onset == 101 and first.value == 9.5


def test_a_loss_that_stays_up_has_diverged_and_is_named_once_more():
    losses = [*descent(80), *[7.6 + 0.01 * (step % 3) for step in range(150)]]
    spike, lasting = found(losses)
    assert (spike.code, lasting.code) == ("loss-spike", "diverged")
    assert spike.step == 83 and lasting.step == spike.step + ROWS


def test_a_loss_that_climbs_slowly_has_diverged():
    losses = [*descent(120), *[3.0 + 0.02 * step for step in range(200)]]
    first = found(losses)[0]
    assert first.code == "diverged" and first.value > 1.2 * first.usual


def test_what_is_over_is_known_to_be():
    detector = SpikeDetector()
    detector.read(rows([*descent(60), 50.0, 50.0]))
    assert not detector.recovered
    detector.read(rows(descent(80)[60:]))
    assert detector.recovered


def test_a_policy_is_judged_by_its_divergence_not_by_its_loss():
    draw = random.Random(3)
    losses = [draw.gauss(0, 1) * draw.choice((0.01, 5)) for _ in range(200)]
    policy = [row | {"reward": 0.5, "kl": 0.05} for row in rows(losses)]
    assert SpikeDetector().read(policy) == []
    for row in policy[100:]:
        row["kl"] = 400.0
    assert SpikeDetector().read(policy)[0].step <= 105


def test_skipped_steps_held_out_rows_and_nonsense_are_passed_over():
    losses = rows(descent(40))
    mixed = [
        *losses,
        {"step": 41, "loss": None, "skipped": True},
        {"step": 40, "validation_loss": 99.0},
        {"step": 42, "loss": float("nan")},
        {"step": 43, "loss": True},
        {"loss": 1e9},
    ]
    assert SpikeDetector().read(mixed) == []


def test_reading_a_log_again_gives_the_same():
    broken = rows([*descent(60), *[90.0] * 4, *descent(200)[64:]])
    whole = SpikeDetector().read(broken)
    resumed = SpikeDetector()
    assert resumed.read(broken[:62]) + resumed.read(broken[62:]) == whole != []
