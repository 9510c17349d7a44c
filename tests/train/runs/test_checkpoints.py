"""Checkpoints of one trainer: what is remembered of the best one, and when it is forgotten."""

import math
import shutil

import pytest

from congling.core.rundir import RunDirectory
from congling.model.checkpoint import save_model
from congling.train.runs.checkpoints import save
from congling.train.runs.guard import SkippedSteps
from congling.train.runs.hooks import evaluation
from congling.train.runs.metrics import Metrics, MetricScales
from congling.train.runs.progress import ProgressLine
from congling.train.runs.resuming import resume
from support.training_doubles import settings, trainer


@pytest.fixture
def run(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    return RunDirectory(tmp_path)


def test_a_best_checkpoint_that_is_gone_is_not_waited_for(run):
    first = trainer(settings())
    for first.step, best in ((2, 2), (4, 2)):
        first.best = {"step": best, "loss": 1.0}
        save(first, run, save_model, tokenizer=None, parents={})
    again = trainer(settings())
    assert resume(again, run, {}) == 4 and again.best == {"step": 2, "loss": 1.0}
    shutil.rmtree(run.checkpoint(2))
    again = trainer(settings())
    assert resume(again, run, {}) == 4 and again.best is None


def test_a_held_out_loss_that_is_no_number_is_never_the_best(run):
    log = Metrics(run, MetricScales(), ProgressLine(6, 0), SkippedSteps(10), every=1)
    one, losses = trainer(settings()), iter((math.nan, 2.0, math.inf, 1.5))
    measure = evaluation(lambda model: {"loss": next(losses)}, log)
    seen = []
    for _ in range(4):
        measure(one)
        seen.append(one.best and one.best["loss"])
    assert seen == [None, 2.0, 2.0, 1.5]
    assert "NaN" not in run.log("metrics").path.read_text()
    assert "Infinity" not in run.log("metrics").path.read_text()
