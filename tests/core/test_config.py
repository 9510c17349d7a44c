from typing import Annotated, Literal

import pytest
from pydantic import Field

from congling.core.config import Config, build, load, with_overrides
from congling.core.errors import UserError
from congling.core.units import Amount, Seconds


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
