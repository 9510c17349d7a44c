"""What is asked of a tuning run: what cannot be done is refused by name."""

import pytest

from congling.core.errors import UserError
from congling.methods.recipes import TuningRecipe, read_recipe


def test_rows_have_no_test_split_and_it_is_said() -> None:
    asked = read_recipe(TuningRecipe, ["data.split.validation=5"], ["rows.jsonl"])
    assert asked.data.split.validation == 5
    with pytest.raises(UserError, match=r"data.split.test is for training from scratch.*eval --data"):
        read_recipe(TuningRecipe, ["data.split.test=0.1"], ["rows.jsonl"])
