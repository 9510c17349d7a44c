import json
import tomllib
from typing import Annotated, Literal

import pytest
from pydantic import Field

from congling.core.config import Config, build, load, with_overrides
from congling.core.errors import UserError
from congling.core.units import Amount, Seconds
from congling.data.config import DataConfig, SplitConfig
from congling.data.smallworld.config import SmallWorldConfig
from congling.model.config import RotaryConfig
from congling.train.config import AdamWConfig, TrainConfig
from congling.transform.config import AdapterConfig


class Muon(Config):
    kind: Literal["muon"] = "muon"
    rate: float = 0.02


class AdamW(Config):
    kind: Literal["adamw"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.95)


class Training(Config):
    steps: int = Field(gt=0)
    budget: Seconds | None = None
    size: Amount = 100
    optimizer: Annotated[Muon | AdamW, Field(discriminator="kind")] = Muon()


def test_units_and_defaults():
    made = build(Training, {"steps": 3, "budget": "15m", "size": "2MB", "optimizer": {"kind": "adamw"}})
    assert (made.budget, made.size) == (900, 2_000_000)
    assert made.optimizer == AdamW()


def test_an_unknown_key_names_the_nearest():
    with pytest.raises(UserError, match=r"unknown key: 'setps'[\s\S]*did you mean 'steps'"):
        build(Training, {"setps": 3, "steps": 1})


def test_an_unknown_key_inside_a_union_names_the_nearest():
    with pytest.raises(UserError, match=r"did you mean 'betas'"):
        build(Training, {"steps": 1, "optimizer": {"kind": "adamw", "beta": [0.9, 0.9]}})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"a key is missing: 'steps'"),
        ({"steps": -1}, r"greater than 0: -1 \(in recipe, key steps\)"),
        ({"steps": 1, "budget": "soon"}, r"'soon' is no duration"),
        ({"steps": 1, "optimizer": {"kind": "sgd"}}, r"'muon', 'adamw'"),
    ],
)
def test_wrong_values_are_explained(values, message):
    with pytest.raises(UserError, match=message):
        build(Training, values, where="recipe")


def test_frozen_and_fingerprint():
    made = build(Training, {"steps": 3})
    with pytest.raises(Exception, match="frozen"):
        made.steps = 4
    assert made.fingerprint() == build(Training, {"steps": 3, "size": 100}).fingerprint()
    assert made.fingerprint() != made.replace(steps=4).fingerprint()


def test_replace_merges_tables_and_swaps_kinds():
    made = build(Training, {"steps": 3, "optimizer": {"kind": "muon", "rate": 0.1}})
    assert made.replace(optimizer={"rate": 0.2}).optimizer == Muon(rate=0.2)
    assert made.replace(optimizer={"kind": "adamw"}).optimizer == AdamW()


def test_toml_round_trip_with_overrides(tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text(build(Training, {"steps": 3, "budget": 60}).to_toml(), encoding="utf-8")
    assert load(Training, file) == build(Training, {"steps": 3, "budget": 60})
    changed = load(Training, file, ["steps=7", "optimizer.rate=0.5", "budget=2m"])
    assert (changed.steps, changed.budget, changed.optimizer) == (7, 120, Muon(rate=0.5))


@pytest.mark.parametrize("override", ["steps", "=3", "a..b=1"])
def test_malformed_overrides(override):
    with pytest.raises(UserError, match="key=value"):
        with_overrides({}, [override])


def test_an_override_cannot_enter_a_value():
    with pytest.raises(UserError, match="is a value, not a table"):
        with_overrides({"steps": 3}, ["steps.more=1"])


def test_unreadable_recipes(tmp_path):
    with pytest.raises(UserError, match="cannot read the recipe"):
        load(Training, tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("steps = = 3", encoding="utf-8")
    with pytest.raises(UserError, match="no valid TOML"):
        load(Training, tmp_path / "bad.toml")
    (tmp_path / "bad.toml").write_text("steps = " + "[" * 100_000, encoding="utf-8")
    with pytest.raises(UserError, match="no valid TOML"):
        load(Training, tmp_path / "bad.toml")


def test_a_date_is_a_wrong_value_like_any_other(tmp_path):
    (tmp_path / "dated.toml").write_text("steps = 2026-01-01", encoding="utf-8")
    with pytest.raises(UserError, match="key steps"):
        load(Training, tmp_path / "dated.toml")
    with pytest.raises(UserError, match="key steps"):
        build(Training, with_overrides({"steps": 3}, ["steps=2026-01-01"]))


_TABLE = {"max_steps": 10, "max_length": 32}
_ACCEPTED = [
    (TrainConfig, "max_grad_norm", 1, 1.0),
    (TrainConfig, "max_grad_norm", 0.5, 0.5),
    (TrainConfig, "document_mask", True, True),
    (TrainConfig, "sample_prompts", ["春", "夏"], ("春", "夏")),
    (TrainConfig, "optimizer", {"kind": "adamw", "betas": [0, 0.5]}, AdamWConfig(betas=(0.0, 0.5))),
    (TrainConfig, "precision", "bf16", "bf16"),
    (TrainConfig, "early_stopping_patience", None, None),
    (DataConfig, "piece", "4k", 4000),
    (DataConfig, "longest", "2MB", 2_000_000),
    (DataConfig, "longest", 2e6, 2_000_000),
    (DataConfig, "split", {"validation": 3}, SplitConfig(validation=3)),
    (Training, "budget", "15m", 900.0),
    (Training, "budget", 90, 90.0),
    (SmallWorldConfig, "mix", {"story": 1}, {"story": 1.0}),
]
_REFUSED = [
    (TrainConfig, "max_steps", "100", "a whole number is expected: '100' (in recipe, key max_steps)"),
    (TrainConfig, "max_steps", True, "a whole number is expected: True (in recipe, key max_steps)"),
    (TrainConfig, "max_steps", 100.0, "a whole number is expected: 100.0 (in recipe, key max_steps)"),
    (TrainConfig, "per_device_train_batch_size", 1.5,
     "a whole number is expected: 1.5 (in recipe, key per_device_train_batch_size)"),
    (TrainConfig, "seed", False, "a whole number is expected: False (in recipe, key seed)"),
    (TrainConfig, "save_steps", "５", "a whole number is expected: '５' (in recipe, key save_steps)"),
    (TrainConfig, "max_grad_norm", True, "a number is expected: True (in recipe, key max_grad_norm)"),
    (TrainConfig, "max_grad_norm", "1.0", "a number is expected: '1.0' (in recipe, key max_grad_norm)"),
    (TrainConfig, "ema_decay", "0.99", "a number is expected: '0.99' (in recipe, key ema_decay)"),
    (TrainConfig, "document_mask", "yes", "true or false is expected: 'yes' (in recipe, key document_mask)"),
    (TrainConfig, "document_mask", 1, "true or false is expected: 1 (in recipe, key document_mask)"),
    (TrainConfig, "gradient_checkpointing", "false", "true or false is expected: 'false'"),
    (TrainConfig, "device", 0, "text is expected: 0 (in recipe, key device)"),
    (TrainConfig, "sample_prompts", "春", "a list is expected: '春' (in recipe, key sample_prompts)"),
    (TrainConfig, "sample_prompts", {"春"}, "a list is expected: {'春'} (in recipe, key sample_prompts)"),
    (TrainConfig, "optimizer", {"kind": "adamw", "betas": [0.9, "0.95"]}, "a number is expected: '0.95'"),
    (TrainConfig, "optimizer", {"kind": "muon", "ns_steps": True}, "a whole number is expected: True"),
    (DataConfig, "sources", "book.txt", "a list is expected: 'book.txt' (in recipe, key sources)"),
    (DataConfig, "split", {"validation": "3"}, "a number is expected: '3' (in recipe, key split.validation)"),
    (DataConfig, "split", {"test": True}, "a number is expected: True (in recipe, key split.test)"),
    (DataConfig, "split", [0.1], "a table is expected: [0.1] (in recipe, key split)"),
    (DataConfig, "piece", "4.00005k", "'4.00005k' is no whole number (in recipe, key piece)"),
    (DataConfig, "piece", 400.5, "a whole number is expected: 400.5 (in recipe, key piece)"),
    (DataConfig, "deduplicate", "no", "true or false is expected: 'no' (in recipe, key deduplicate)"),
    (Training, "budget", True, "a number is expected: True (in recipe, key budget)"),
    (SmallWorldConfig, "mix", {"story": "1"}, "a number is expected: '1' (in recipe, key mix.story)"),
    (RotaryConfig, "no_rope_layers", [True, False], "a whole number is expected: True"),
    (RotaryConfig, "no_rope_layers", [1.0, 0.0], "a whole number is expected: 1.0"),
    (AdapterConfig, "rank_pattern", {"query": "8"},
     "a whole number is expected: '8' (in recipe, key rank_pattern.query)"),
    (AdapterConfig, "use_dora", "True", "true or false is expected: 'True' (in recipe, key use_dora)"),
]  # fmt: skip


def _needed(kind):
    return {TrainConfig: _TABLE, DataConfig: {"sources": ["a.txt"]}, Training: {"steps": 1}}.get(kind, {})


@pytest.mark.parametrize(("kind", "key", "value", "held"), _ACCEPTED)
def test_what_is_of_its_kind_is_taken_as_it_stands(kind, key, value, held):
    found = getattr(build(kind, {**_needed(kind), key: value}), key)
    assert (found, type(found)) == (held, type(held))


@pytest.mark.parametrize(("kind", "key", "value", "message"), _REFUSED)
def test_nothing_is_converted_unasked(kind, key, value, message):
    with pytest.raises(UserError) as refused:
        build(kind, {**_needed(kind), key: value}, where="recipe")
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("override", "held"),
    [
        ("max_steps=7", 7), ("max_steps = 7", 7), ("max_steps='7'", None), ('max_steps="7"', None),
        ("max_steps=1e3", None), ("max_steps=true", None), ("max_steps=1_000", 1000),
        ("max_grad_norm=1", 1.0), ("max_grad_norm=.5", 0.5), ("max_grad_norm=-.5", None),
        ("max_grad_norm=1.", 1.0), ("max_grad_norm=1.e-2", 0.01), ("max_grad_norm=yes", None),
        ("document_mask=true", True),
        ("document_mask=True", None), ("document_mask=yes", None), ("document_mask=1", None),
        ("sample_prompts=['1']", ("1",)), ("sample_prompts=[1]", None), ("device=cpu", "cpu"),
        ("device=0", None),
    ],
)  # fmt: skip
def test_words_of_a_command_line_are_toml_first(override, held):
    values, key = with_overrides(_TABLE, [override]), override.partition("=")[0].strip()
    if held is None:
        with pytest.raises(UserError, match=key):
            build(TrainConfig, values)
    else:
        found = getattr(build(TrainConfig, values), key)
        assert (found, type(found)) == (held, type(held))


def test_a_refusal_says_how_it_is_written():
    for value, hint in (("100", "without quotes"), (100.0, "write 100"), ("hundred", None)):
        with pytest.raises(UserError) as refused:
            build(TrainConfig, _TABLE | {"max_steps": value})
        assert refused.value.hint is None if hint is None else hint in (refused.value.hint or "")


def test_what_was_written_is_read_again():
    train = build(TrainConfig, _TABLE | {"sample_prompts": ["春"], "max_grad_norm": 1})
    assert build(TrainConfig, json.loads(train.model_dump_json())) == train
    assert build(TrainConfig, tomllib.loads(train.to_toml())) == train
