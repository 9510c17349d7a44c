"""The pretraining stage from a recipe: it plans, trains, and goes on only with the same recipe."""

import itertools
import os
import shutil
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from congling.core.config import read_toml
from congling.core.errors import UserError
from congling.interop.source import locate_checkpoint
from congling.methods import ending, pretrain, train
from congling.methods.inputs import read_recipe
from congling.methods.planned import begin_or_go_on
from congling.model.families import FAMILIES
from congling.plan.recipe import Recipe
from congling.train import calibrate
from congling.train.config import TrainConfig
from congling.train.measurement import Calibration, Probe
from congling.train.runs.deadline import Deadline, recorded

TINY = (
    "train.max_steps=4",
    "train.max_length=16",
    "train.per_device_train_batch_size=2",
    "train.torch_compile='off'",
    "model.num_hidden_layers=1",
    "model.hidden_size=64",
)


def test_a_recipe_is_planned_trained_and_only_continued_as_it_was(inputs, tmp_path, capsys):
    out, asked = tmp_path / "run", read_recipe(Recipe, None, TINY)
    run = begin_or_go_on(asked, inputs, out, force=True)
    assert locate_checkpoint(out).is_dir()
    assert [row["step"] for row in run.log("metrics").rows() if "loss" in row] == [1, 2, 3, 4]
    assert {"plan.json", "recipe.toml", "config.toml"} <= {file.name for file in out.iterdir()}
    assert "4/4" in capsys.readouterr().err
    before = run.log("metrics").path.read_bytes()
    begin_or_go_on(asked, inputs, out, force=True, must_resume=True)
    assert run.log("metrics").path.read_bytes() == before
    changed = read_recipe(
        Recipe, None, (*TINY, "train.per_device_train_batch_size=3", "model.hidden_size=128")
    )
    with pytest.raises(
        UserError, match=r"other settings: 'model\.hidden_size, train\.per_device_train_batch_size'"
    ):
        begin_or_go_on(changed, inputs, out, force=True)
    (out / "recipe.toml").unlink()
    with pytest.raises(UserError, match="begun by a program"):
        begin_or_go_on(asked, inputs, out)


def test_a_run_with_a_budget_ends_by_the_clock_and_again_where_it_ended(inputs, tmp_path, monkeypatch):
    ticks = itertools.count()
    clock = partial(Deadline, clock=lambda: time.monotonic() + 0.2 * next(ticks))  # seconds at every look
    monkeypatch.setattr(pretrain, "Deadline", clock)
    monkeypatch.setattr(calibrate, "probe", lambda *_: Probe(1e11, "fp32"))
    monkeypatch.setattr(calibrate, "measure", lambda *_, **__: Calibration(1e11, 0.004, 32, 10**8, 0.1))
    asked = read_recipe(Recipe, None, ("budget=60s", *TINY[1:]))
    out, started = tmp_path / "run", time.monotonic()
    run = begin_or_go_on(asked, inputs, out, started=started)
    limits = read_toml(out / "config.toml")["deadline"]
    rows = [row for row in run.log("metrics").rows() if "lr" in row]
    turns = recorded(out)
    assert limits["seconds"] == 60 and limits["most_steps"] > 1000
    assert turns and 20 < rows[-1]["step"] == turns[-1].steps < 200
    assert rows[-1]["lr"] < 0.15 * max(row["lr"] for row in rows)
    assert run.checkpoint(turns[0].step).is_dir()
    assert " of 1 m 00 s: " in ending.told_of_the_time(out, started)[0]
    # Without its last checkpoints it makes the same turns again, though no time is left by then.
    metrics, last = run.log("metrics").path.read_bytes(), run.pointed("LATEST").name
    weights = (run.checkpoints()[0] / "model.safetensors").read_bytes()
    for path in run.checkpoints()[:-1]:
        shutil.rmtree(path)
    begin_or_go_on(asked, inputs, out, started=started - 1000)
    assert run.log("metrics").path.read_bytes() == metrics and run.pointed("LATEST").name == last
    assert (run.checkpoints()[0] / "model.safetensors").read_bytes() == weights
    said = ending.told_of_the_time(out, started)[0]  # the time of the checkpoint, and what came since
    assert said.startswith("took ") and f"{turns[-1].steps} steps" in said
    assert ending.told_of_the_time(out, time.monotonic() + 100) == []  # nothing was trained since


def test_a_run_that_ended_by_the_clock_is_made_longer(inputs, tmp_path, monkeypatch):
    ticks = itertools.count()
    clock = partial(Deadline, clock=lambda: time.monotonic() + 0.4 * next(ticks))
    monkeypatch.setattr(pretrain, "Deadline", clock)
    monkeypatch.setattr(calibrate, "probe", lambda *_: Probe(1e11, "fp32"))
    monkeypatch.setattr(calibrate, "measure", lambda *_, **__: Calibration(1e11, 1.0, 32, 10**8, 0.1))
    asked = read_recipe(Recipe, None, ("budget=60s", *TINY[1:]))
    out = tmp_path / "run"
    begin_or_go_on(asked, inputs, out, started=time.monotonic())
    turns = recorded(out)
    ended, began = turns[-1].steps, turns[0].step
    run = begin_or_go_on(asked, inputs, out, longer="40steps")
    rows = [row for row in run.log("metrics").rows() if "lr" in row]
    assert rows[-1]["step"] == ended + 40
    train = read_toml(out / "config.toml")["train"]
    assert train["max_steps"] == ended + 40 and "deadline" not in read_toml(out / "config.toml")
    assert not (out / "schedule.json").exists()
    peak = max(row["lr"] for row in rows)
    fall = next(row["step"] for row in rows if row["step"] > began and row["lr"] < peak)
    assert fall > began + 1 and all(row["lr"] == peak for row in rows[began : fall - 1])
    assert rows[-1]["lr"] < 0.1 * peak
    # The same to the bit as a run that had this end from the beginning.
    whole = pretrain.PretrainConfig(**{key: value for key, value in read_toml(out / "config.toml").items()})
    other = pretrain.run(whole, inputs, tmp_path / "whole")
    ours, theirs = (one.checkpoint(ended + 40) / "model.safetensors" for one in (run, other))
    assert ours.read_bytes() == theirs.read_bytes()


def test_of_two_processes_one_plans(inputs, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    together = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    paths = [str(inputs.shards.artifact.path), str(inputs.tokenizer_path), str(tmp_path / "run")]
    command = [sys.executable, str(Path(__file__).with_name("together_program.py")), *paths]
    processes = [
        subprocess.Popen(command, env=together | {"RANK": str(rank)}, stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=60)[0].split() for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0]
    assert said[0][:2] == ["planned", "steps"] and said[1][:1] == ["steps"]
    steps = read_toml(tmp_path / "run" / "config.toml")["train"]["max_steps"]
    assert int(said[0][2]) == steps >= 20


def test_train_is_not_for_several_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="torchrun started several: 2"):
        train.run(read_recipe(Recipe, None, TINY), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_model_and_shards_must_fit(inputs, tmp_path):
    model = FAMILIES["qwen3"](
        vocab_size=inputs.shards.vocab_size, max_position_embeddings=16, num_hidden_layers=1, hidden_size=32
    )
    config = pretrain.PretrainConfig(model=model, train=TrainConfig(max_steps=1, max_length=16))
    smaller = config.replace(model={"vocab_size": 17})
    with pytest.raises(UserError, match="different vocabularies"):
        pretrain.run(smaller, inputs, tmp_path / "a")
    shorter = config.replace(model={"max_position_embeddings": 8})
    with pytest.raises(UserError, match=r"train\.max_length is longer"):
        pretrain.run(shorter, inputs, tmp_path / "b")
