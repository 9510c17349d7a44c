"""Recipes: from TOML, from the command line, with overrides and helpful refusals."""

from pathlib import Path

import pytest

from congling.core.config import read_toml
from congling.core.errors import UserError
from congling.plan import recipe


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    file = tmp_path / "book.toml"
    file.write_text(
        'budget = "15m"\nsamples = ["却说"]\n[data]\nsources = ["book.txt"]\n'
        "[train]\nper_device_train_batch_size = 8\n",
        encoding="utf-8",
    )
    return file


def test_a_recipe_file_with_overrides(toml):
    found = recipe.read(
        [toml], ["train.per_device_train_batch_size=4", "model.num_hidden_layers=3", "budget=90s"]
    )
    assert (found.budget, found.train, found.model.num_hidden_layers) == (
        90.0,
        {"per_device_train_batch_size": 4},
        3,
    )
    assert found.samples == ("却说",)
    assert found.model.given() == {"num_hidden_layers": 3}


def test_texts_make_a_recipe(tmp_path):
    text = tmp_path / "book.txt"
    text.write_text("却说", encoding="utf-8")
    assert recipe.read([text]).data.sources == (str(text),)


def test_unknown_keys_name_the_nearest(toml):
    with pytest.raises(UserError, match="did you mean 'per_device_train_batch_size'"):
        recipe.read([toml], ["train.per_device_train_batch_sise=4"])
    with pytest.raises(UserError, match="did you mean 'num_hidden_layers'"):
        recipe.read([toml], ["model.num_hidden_layrs=4"])


@pytest.mark.parametrize("inputs", [[], ["missing.txt"], ["a.toml", "b.toml"]])
def test_inputs_that_make_no_recipe(inputs):
    with pytest.raises(UserError):
        recipe.read(inputs)


@pytest.mark.parametrize(
    "setting",
    [
        "max_length=long",
        "per_device_train_batch_size='8'",
        "max_grad_norm=true",
        "document_mask=yes",
        "seed=1.0",
    ],
)
def test_settings_of_training_are_checked_before_the_plan_calculates_with_them(toml, setting):
    with pytest.raises(UserError, match=f"expected: .*key train.{setting.partition('=')[0]}"):
        recipe.read([toml], [f"train.{setting}"])


def test_arguments_are_parted(tmp_path):
    odd = tmp_path / "a=b.txt"
    odd.touch()
    assert recipe.separate(["x.txt", "train.per_device_train_batch_size=4", str(odd)]) == (
        [Path("x.txt"), odd],
        ["train.per_device_train_batch_size=4"],
    )


def test_the_examples_are_recipes():
    folder = Path(__file__).parents[2] / "examples"
    for file in sorted(folder.glob("*.toml")):
        if "data" in read_toml(file):  # the others are for verbs that tune
            assert recipe.read([file]).data.sources
