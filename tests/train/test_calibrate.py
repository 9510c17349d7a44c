"""Calibration: plausible numbers that belong together."""

import json

import pytest

from congling.train.calibrate import measure
from congling.train.measurement import Calibration
from support.training_doubles import settings, small_model


def test_numbers_are_consistent():
    found = measure(small_model().config, settings(gradient_accumulation_steps=2), seconds=0.1)
    assert found.tokens_per_step == 2 * 2 * 12
    assert found.tokens_per_second == pytest.approx(48 / found.seconds_per_step)
    assert 0 < found.utilisation < 1
    assert Calibration(**json.loads(json.dumps(found.to_json()))) == found
