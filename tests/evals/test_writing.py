"""Texts for a measurement: the same however they are batched, and drawn as the model has them."""

import pytest

from congling.evals import writing
from congling.infer.checkpoints import Loaded
from congling.infer.sampler import SamplingConfig

PROMPTS = ["从零", "", "学写字", "", "天地玄黄，宇宙", "从零", ""]
HOT = SamplingConfig(temperature=3.0, seed=2)


def test_batches_change_nothing(undecided: Loaded, monkeypatch: pytest.MonkeyPatch):
    found = []
    for rows in (1, 3, 32):
        monkeypatch.setattr(writing, "ROWS", rows)
        found.append(writing.written(undecided, PROMPTS, tokens=8, sampling=HOT))
    assert found[0] == found[1] == found[2]
    assert len(set(found[0])) == len(PROMPTS), "equal prompts draw anew"


def test_a_measurement_sees_the_model_itself(undecided: Loaded):
    texts = writing.written(undecided, PROMPTS * 4, tokens=30, sampling=HOT)
    assert any("\ufffd" in text for text in texts)
