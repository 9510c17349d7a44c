"""The [train] table: defaults, unions by kind, and no torch."""

import subprocess
import sys

import pytest

from congling.core.config import build
from congling.core.errors import UserError
from congling.train.config import AdamWConfig, CosineConfig, MuonConfig, TrainConfig


def test_optimizer_and_schedule_are_chosen_by_kind():
    values = {
        "max_steps": 10,
        "max_length": 8,
        "optimizer": {"kind": "adamw", "learning_rate": 0.002},
        "schedule": {"kind": "cosine"},
    }
    config = build(TrainConfig, values)
    assert config.optimizer == AdamWConfig(learning_rate=0.002)
    assert config.schedule == CosineConfig()
    assert build(TrainConfig, {"max_steps": 10, "max_length": 8}).optimizer == MuonConfig()


def test_a_key_of_the_other_optimizer_is_refused():
    with pytest.raises(UserError, match="unknown key"):
        build(
            TrainConfig, {"max_steps": 10, "max_length": 8, "optimizer": {"kind": "adamw", "momentum": 0.9}}
        )


def test_survives_its_own_toml():
    import tomllib

    config = TrainConfig(
        max_steps=100, max_length=64, ema_decay=0.99, max_grad_norm=0, sample_prompts=("天",)
    )
    assert build(TrainConfig, tomllib.loads(config.to_toml())) == config


def test_intervals_have_defaults_that_fit_short_runs():
    short = TrainConfig(max_steps=3, max_length=8)
    assert [short.interval("save"), short.interval("evaluate"), short.interval("sample")] == [1, 1, 1]
    long = TrainConfig(max_steps=1000, max_length=8, save_steps=7)
    assert [long.interval("save"), long.interval("evaluate")] == [7, 50]


def test_configuration_and_directories_need_no_torch():
    modules = (
        "congling.train.config, congling.train.schedule, congling.core.rundir, congling.train.measurement"
    )
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
