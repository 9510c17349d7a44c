"""Settings and checks of a fine-tuning run, before it starts."""

import dataclasses

import pytest

from congling.model.families import FAMILIES
from congling.plan.tuning_plan import TuningFacts, check, memory_of, passes, rate_of, settings
from congling.train.config import AdamWConfig, TrainConfig

MODEL = FAMILIES["qwen3"](vocab_size=4096, max_position_embeddings=512, num_hidden_layers=4, hidden_size=256)
FACTS = TuningFacts(
    MODEL,
    base_bytes=20_000_000,
    packed=False,
    examples=400,
    inputs=60_000,
    targets=30_000,
    longest=300,
    held_out=40,
    faults={},
)


def per_epoch(context: int, rows: int, accumulation: int) -> float:
    return FACTS.inputs / (context * rows * accumulation)


def filled(asked: dict[str, object], **options: object) -> TrainConfig:
    values = {"adapter": True, "epochs": 3.0, "steps_per_epoch": per_epoch} | options
    return TrainConfig.model_validate(settings(asked, FACTS, **values))


def codes(train: TrainConfig, facts: TuningFacts = FACTS, *, adapter: bool = True) -> list[str]:
    return [finding.code for finding in check(facts, train, adapter=adapter)]


def test_an_adapter_that_cannot_teach_the_marks_of_the_template_is_warned_of():
    assert "adapter-marks" in codes(filled({}), dataclasses.replace(FACTS, strange_marks=True))


def test_what_is_open_is_filled_in_and_what_is_asked_stays():
    train = filled({})
    assert train.max_length == 320 and passes(FACTS, train) == pytest.approx(3, rel=0.02)
    assert train.max_steps >= 3 * 50 and codes(train) == []
    assert isinstance(train.optimizer, AdamWConfig) and train.optimizer.weight_decay == 0
    asked = {
        "max_steps": 7,
        "per_device_train_batch_size": 3,
        "max_length": 64,
        "optimizer": {"learning_rate": 5e-4},
        "schedule": {"min_lr_ratio": 0.1},
    }
    train = filled(asked)
    assert (
        train.max_steps,
        train.per_device_train_batch_size,
        train.max_length,
        train.gradient_accumulation_steps,
    ) == (7, 3, 64, 1)
    assert train.optimizer.learning_rate == 5e-4 and train.schedule.min_lr_ratio == 0.1
    assert filled({"optimizer": {"kind": "muon"}}).optimizer.kind == "muon"


def test_whole_weights_get_a_lower_rate_and_wide_models_too():
    wide = MODEL.replace(hidden_size=4096, attention={"head_dim": 64})
    assert rate_of(MODEL, adapter=True) == 2e-3 and rate_of(MODEL, adapter=False) == 2e-4
    assert rate_of(wide, adapter=True) == 5e-4


def test_checks_name_what_would_go_wrong():
    good = filled({})
    assert codes(good, dataclasses.replace(FACTS, examples=5)) == ["few-rows"]
    assert codes(good, dataclasses.replace(FACTS, held_out=0)) == ["nothing-held-out"]
    assert codes(good, dataclasses.replace(FACTS, faults={"answer truncated": 90})) == ["rows-cut"]
    assert codes(filled({"max_steps": 9999})) == ["rows-repeated"]
    assert codes(filled({"optimizer": {"learning_rate": 0.5}})) == ["tuning-rate-high"]
    assert codes(filled({"optimizer": {"learning_rate": 1e-6}})) == ["tuning-rate-low"]
    assert codes(filled({"max_length": 1000}))[0] == "tuning-context"
    packed = dataclasses.replace(FACTS, packed=True)
    assert codes(good, packed) == [] and "packed-needs-adapter" in codes(good, packed, adapter=False)


def test_an_adapter_needs_little_beside_its_base():
    train = filled({})
    beside = memory_of(FACTS, train, adapter=True, trained=100_000)
    whole = memory_of(FACTS, train, adapter=False, trained=5_000_000)
    assert beside["gradients and optimizer"] == 100_000 * 12 and beside["base"] == whole["base"]
    assert sum(whole.values()) - sum(beside.values()) == (5_000_000 - 100_000) * 12 - 400_000


@pytest.mark.parametrize("steps", [3, 20, 60, 200, 2000])
@pytest.mark.parametrize("held_out", [100, 7_000, 60_000, 600_000])
def test_held_out_losses_take_a_tenth_of_the_run(steps, held_out):
    facts = dataclasses.replace(FACTS, held_out_inputs=held_out, held_out_targets=held_out // 2)
    found = settings({"max_steps": steps}, facts, adapter=True, epochs=3.0, steps_per_epoch=per_epoch)
    train = TrainConfig.model_validate(found)
    times = 1 - (-train.max_steps // train.interval("evaluate"))  # the last step counts in any case
    scored = 2 * min(train.eval_tokens or held_out, held_out // 2)
    assert times <= 21 and (times >= 4 or steps == 3)
    enough = min(held_out, 2 * 1024)  # a loss of fewer is chance
    assert 0.6 * times * scored <= 0.1 * steps * train.tokens_per_step or scored == enough
    assert train.eval_tokens is None or train.eval_tokens < held_out // 2


def test_held_out_losses_are_measured_as_asked():
    facts = dataclasses.replace(FACTS, held_out_inputs=600_000, held_out_targets=300_000)
    for asked in ({"eval_steps": 1}, {"eval_tokens": 9000}):
        found = settings(asked, facts, adapter=True, epochs=3.0, steps_per_epoch=per_epoch)
        assert {key: found.get(key) for key in asked} == asked
        assert not found.keys() & ({"eval_steps", "eval_tokens"} - asked.keys())
