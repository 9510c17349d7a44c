"""When a run ends early, which checkpoint it hands on, and what it warns of while it trains."""

import math
import os
import signal

import numpy as np
import pytest
import torch

from congling.core.config import build
from congling.core.diagnosis import Diagnosis
from congling.core.errors import Interrupted, UserError
from congling.core.rundir import RunDirectory
from congling.data.tuning.examples import Example
from congling.data.tuning.pair_batches import PairBatches, Rated, RatedBatches
from congling.model.checkpoint import save_model
from congling.train.backends.single import Single
from congling.train.config import BETTER, TrainConfig
from congling.train.objectives.config import PreferenceConfig
from congling.train.objectives.preference import preference
from congling.train.runs.hooks import better
from congling.train.runs.train import RunParts, train
from support.training_doubles import VOCABULARY, settings, small_model, trainer

LOOKS = (3.0, 2.0, 2.5, 2.1, 2.2, 1.0)
"""Held-out losses at steps 2, 4 … 12; the best for a patience of 2 is that of step 4."""


class Looks:
    """Held-out numbers by the step of the trainer they belong to."""

    def __init__(self, one, losses=LOOKS, name="loss"):
        self.one, self.losses, self.name, self.steps = one, losses, name, []

    def __call__(self, model):
        self.steps.append(self.one.step)
        value = self.losses[self.one.step // 2 - 1]
        return {"loss": value, self.name: value}


def started(tmp_path, *, losses=LOOKS, name="loss", hooks=(), **changes):
    config = settings(max_steps=12, eval_steps=2, save_steps=12, save_total_limit=5, **changes)
    one = trainer(config)
    looks = Looks(one, losses, name)
    return one, looks, lambda: train(one, tmp_path / "run", RunParts(config, evaluate=looks, hooks=hooks))


def events(run):
    return [row["event"] for row in run.log("events").rows()]


def test_a_run_ends_when_no_look_is_better_for_too_long(tmp_path, capsys):
    one, looks, go = started(tmp_path, early_stopping_patience=2)
    run = go()
    assert one.step == 8 and looks.steps == [2, 4, 6, 8]
    assert run.pointed("BEST") == run.checkpoint(4) and run.pointed("LATEST") == run.checkpoint(8)
    assert events(run) == ["started", "finished"]
    assert "ends after step 8 of 12: held-out loss was best at step 4" in capsys.readouterr().err
    assert [row["step"] for row in run.log("metrics").rows() if "loss" in row] == list(range(1, 9))


def test_the_same_command_again_does_nothing(tmp_path):
    started(tmp_path, early_stopping_patience=2)[2]()
    before = (tmp_path / "run/metrics.jsonl").read_bytes()
    one, looks, go = started(tmp_path, early_stopping_patience=2)
    run = go()
    assert one.step == 8 and looks.steps == [] and events(run) == ["started", "finished"]
    assert run.log("metrics").path.read_bytes() == before


def test_an_interrupted_run_ends_where_it_would_have_ended(tmp_path):
    whole, _, go = started(tmp_path / "whole", early_stopping_patience=2)
    go()

    def cut(one):
        if one.step == 7:
            raise Interrupted("power cut")

    _, _, go = started(tmp_path / "cut", early_stopping_patience=2, hooks=(cut,))
    with pytest.raises(Interrupted):
        go()
    again, looks, go = started(tmp_path / "cut", early_stopping_patience=2)
    run = go()
    assert again.step == whole.step == 8 and looks.steps == [8]  # from the checkpoint before the decay
    assert run.pointed("BEST") == run.checkpoint(4)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name])


def test_without_patience_a_run_goes_to_its_end(tmp_path):
    one, _, go = started(tmp_path)
    run = go()
    assert one.step == 12 and run.pointed("BEST") == run.checkpoint(12)


def test_another_number_may_choose_and_more_of_it_is_better(tmp_path):
    one, _, go = started(
        tmp_path, name="score", metric_for_best_model="score", losses=(0.1, 0.5, 0.9, 0.7, 0.9, 0.2)
    )
    run = go()
    assert one.best == {"step": 6, "score": 0.9} and run.pointed("BEST") == run.checkpoint(6)


@pytest.mark.parametrize(
    ("name", "value", "best", "answer"),
    [
        ("loss", 1.0, 2.0, True), ("loss", 2.0, 1.0, False), ("loss", 1.0, 1.0, False),
        ("perplexity", 1.0, 2.0, True), ("score", 1.0, 2.0, False), ("score", 2.0, 1.0, True),
        ("score", math.inf, 1.0, False), ("loss", math.nan, None, False), ("score", 0.0, None, True),
        ("drift", 1.0, 2.0, True), ("drift", 5.0, 1.0, False), ("rejected", -2.0, -1.0, True),
        ("margin", 2.0, 1.0, True), ("accuracy", 0.4, 0.5, False),
    ],
)  # fmt: skip
def test_which_direction_is_better(name, value, best, answer):
    assert better(name, value, None if best is None else {name: best}) is answer


def test_a_number_that_is_not_measured_cannot_choose(tmp_path):
    with pytest.raises(
        UserError,
        match=r"no held-out number of this name: 'score' \(in train.metric_for_best_model\)\n.*loss",
    ):
        started(tmp_path, metric_for_best_model="score")[2]()


def test_a_number_without_a_known_direction_cannot_choose():
    with pytest.raises(
        UserError, match=r"whether more or less of 'smoothness' is better(.|\n)*loss(.|\n)*drift"
    ):
        build(
            TrainConfig, {"max_steps": 1, "max_length": 8, "metric_for_best_model": "smoothness"}, where="x"
        )


@pytest.mark.parametrize("loss", ["dpo", "kto"])
def test_every_number_that_a_preference_measures_has_a_direction(loss):
    model, config = small_model().eval(), PreferenceConfig(loss_type=loss)
    ids = Example(np.arange(6, dtype=np.int32), np.arange(6) > 2, 0, "rows:1")
    sizes = {
        "context": 12,
        "rows": 2,
        "accumulation": 1,
        "seed": 0,
        "pad": 0,
        "reference": np.zeros(4, np.float32),
    }
    if loss == "kto":
        batch = RatedBatches([Rated(ids, True), Rated(ids, False)], [ids, ids], **sizes).batch(range(2))
    else:
        batch = PairBatches([(ids, ids), (ids, ids)], **sizes).batch(range(2))
    assert preference(config)(model, Single(settings()).to_device(batch)).metrics.keys() <= BETTER.keys()


@pytest.mark.parametrize("key", [{"early_stopping_patience": 3}, {"metric_for_best_model": "score"}])
def test_nothing_held_out_is_nothing_to_wait_for(tmp_path, key):
    config = settings(**key)
    with pytest.raises(UserError, match=f"train.{next(iter(key))} needs held-out numbers"):
        train(trainer(config), tmp_path / "run", RunParts(config))


def test_patience_needs_a_best_checkpoint():
    with pytest.raises(UserError, match="early_stopping_patience needs load_best_model_at_end"):
        build(
            TrainConfig,
            {"max_steps": 1, "max_length": 8, "early_stopping_patience": 2, "load_best_model_at_end": False},
            where="x",
        )


def test_each_warning_is_said_once_even_after_an_interruption(tmp_path, capsys):
    seen = []

    def watch(rows, texts):
        seen.append((len(rows), len(texts)))
        return [Diagnosis("warning", "all-alike", "every answer is the same", "why", "do this")]

    def run_once(hooks=()):
        config = settings(max_steps=12, eval_steps=2, sample_steps=2)
        one = trainer(config, model=small_model())
        parts = RunParts(
            config, watch=watch, sample=lambda model: [{"prompt": "", "text": str(VOCABULARY)}], hooks=hooks
        )
        return train(one, tmp_path / "run", parts)

    def cut(one):
        if one.step == 9:
            raise Interrupted("power cut")

    with pytest.raises(Interrupted):
        run_once((cut,))
    run = run_once()
    warned = [row for row in run.log("events").rows() if row["event"] == "warning"]
    assert [(row["step"], row["code"]) for row in warned] == [(2, "all-alike")]
    line = "step 2: warning: every answer is the same (all-alike): do this"
    assert capsys.readouterr().err.count(line) == 1
    assert seen[0] == (2, 1) and seen[-1] == (12, 6)


def test_a_sample_that_is_drawn_by_step_is_told_the_step(tmp_path):
    class Numbered:
        step = 0

        def at(self, step):
            found = Numbered()
            found.step = step
            return found

        def __call__(self, model):
            return [{"prompt": "", "text": f"drawn at {self.step}"}]

    config = settings(max_steps=6, sample_steps=2)
    run = train(trainer(config, model=small_model()), tmp_path / "run", RunParts(config, sample=Numbered()))
    assert [row["text"] for row in run.log("samples").rows()] == [f"drawn at {step}" for step in (2, 4, 6)]


@pytest.mark.parametrize("where", ["evaluate", "save_model"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_last_save_lets_it_be_finished_and_is_told(tmp_path, where, number):
    config = settings(eval_steps=6, save_steps=2)

    def pressed(one):
        if one.step == config.max_steps:
            os.kill(os.getpid(), number)

    def run_once(press):
        one = trainer(config)

        def look(model):
            if press and where == "evaluate":
                pressed(one)
            return {"loss": 1.0}

        def write(model, folder):
            if press and where == "save_model":
                pressed(one)
            save_model(model, folder)

        return train(one, tmp_path / "run", RunParts(config, evaluate=look, save_model=write))

    with pytest.raises(Interrupted, match=r"after the last step, 6: training is complete and saved in"):
        run_once(press=True)
    run = RunDirectory(tmp_path / "run")
    assert run.pointed("LATEST") == run.pointed("BEST") == run.checkpoint(6)
    before = run.log("metrics").path.read_bytes()
    run_once(press=False)
    assert run.log("metrics").path.read_bytes() == before and events(run).count("finished") == 1


def test_an_end_that_nobody_could_note_is_noted_by_the_same_command(tmp_path):
    _, _, go = started(tmp_path)
    run = go()
    log = run.log("events").path
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))
    _, looks, go = started(tmp_path)
    assert events(go()) == ["started", "finished"] and looks.steps == []
