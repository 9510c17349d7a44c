"""Calibration: plausible numbers, and the error of a process that failed."""

import json

import pytest
from training_doubles import settings, small_model

from congling.core.errors import UserError
from congling.train.calibrate import measure, measure_apart
from congling.train.measurement import Calibration


def test_numbers_are_consistent():
    found = measure(small_model().config, settings(accumulation=2), seconds=0.1)
    assert found.tokens_per_step == 2 * 2 * 12
    assert found.tokens_per_second == pytest.approx(48 / found.seconds_per_step)
    assert 0 < found.utilisation < 1
    assert Calibration(**json.loads(json.dumps(found.to_json()))) == found


def test_a_model_that_does_not_run_is_an_error_for_people():
    config = small_model("gpt2").config  # has positions for 12 tokens only
    with pytest.raises(UserError, match="a trial step of this model failed here"):
        measure_apart(config, settings(context=4096, rows=1), seconds=0.1)
