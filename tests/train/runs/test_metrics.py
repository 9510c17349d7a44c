"""Logs of a run: units, skipped steps, giving up, and the lines people see."""

import json
import math

import pytest
import torch

from congling.core.errors import Interrupted, UserError
from congling.core.rundir import JsonLines, RunDirectory
from congling.train.objectives.loss import Loss
from congling.train.objectives.next_token import next_token
from congling.train.runs.guard import SkippedSteps, StopSignals
from congling.train.runs.hooks import agreeing, every, stopping
from congling.train.runs.metrics import Metrics, MetricScales
from congling.train.runs.progress import ProgressLine
from congling.train.schedule import learning_rate_factor
from support.training_doubles import settings, trainer


def metrics(path, limit=10, interval=1):
    scales = MetricScales(tokens_per_character=0.5, flops_per_token=100.0, matmul_peak=1e9)
    line = ProgressLine(6, 0)
    return Metrics(RunDirectory(path), scales, line, SkippedSteps(limit), every=interval)


def broken(model, batch):
    loss = next_token(model, batch)
    return Loss(loss.total * math.nan, {"loss": loss.metrics["loss"] * math.nan})


def test_rows_hold_every_step_in_comparable_units(tmp_path):
    trainer(settings()).run([metrics(tmp_path)])
    rows = list(RunDirectory(tmp_path).log("metrics").rows())
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    for row in rows:
        assert row["bits_per_character"] == pytest.approx(row["loss"] * 0.5 / math.log(2))
        assert row.keys() >= {"tokens", "gradient_norm", "lr"}
    assert rows[-1]["tokens"] > rows[0]["tokens"]
    timing = list(RunDirectory(tmp_path).log("timing").rows())
    assert timing[-1]["utilisation"] == pytest.approx(timing[-1]["tokens_per_second"] * 100 / 1e9)


def test_reading_every_few_steps_writes_the_same_rows(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    trainer(settings()).run([metrics(tmp_path / "a")])
    trainer(settings()).run([metrics(tmp_path / "b", interval=4)])
    assert (tmp_path / "a/metrics.jsonl").read_bytes() == (tmp_path / "b/metrics.jsonl").read_bytes()


def test_waiting_rows_keep_their_own_order_of_numbers(tmp_path):
    """Two rows with the same numbers in another order: none takes the other's place."""
    found, one = metrics(tmp_path, interval=2), trainer(settings())
    step = {"step": 1, "tokens": 2.0, "skipped": torch.tensor(0.0), "lr": 1.0}
    loss, norm = torch.tensor(3.0), torch.tensor(7.0)
    for row in ({"loss": loss, "gradient_norm": norm}, {"gradient_norm": norm, "loss": loss}):
        one.step_metrics = step | row
        found(one)
    rows = list(RunDirectory(tmp_path).log("metrics").rows())
    assert [(row["loss"], row["gradient_norm"]) for row in rows] == [(3.0, 7.0)] * 2


def test_a_skipped_step_is_logged_as_valid_json(tmp_path):
    trainer(settings(max_steps=2), objective=broken).run([metrics(tmp_path)])
    row = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    assert row["skipped"] is True
    assert row["loss"] is None
    assert [event["event"] for event in RunDirectory(tmp_path).log("events").rows()] == ["skipped step"] * 2


def test_gives_up_after_too_many_skipped_steps_in_a_row(tmp_path):
    with pytest.raises(UserError, match="3 steps in a row"):
        trainer(settings(), objective=broken).run([metrics(tmp_path, limit=3)])
    guard = SkippedSteps(2)
    for step, skipped in enumerate([True, False, True, False]):
        guard.count(step, skipped)
    assert guard.total == 2


def test_every_calls_at_multiples_and_at_the_end():
    called = []
    trainer(settings(max_steps=7)).run([every(3, lambda one: called.append(one.step))])
    assert called == [3, 6, 7]


def test_a_stop_request_ends_the_run_after_the_step(tmp_path):
    stop, found = StopSignals(), trainer(settings())

    def press(one):
        stop.requested = one.step == 2

    with pytest.raises(Interrupted, match=r"step 2 of 6[^$]*run the same command again"):
        found.run([press, agreeing(stop), stopping(RunDirectory(tmp_path), stop)])
    assert found.step == 2


def test_a_line_cut_off_by_a_kill_is_left_out(tmp_path):
    log = JsonLines(tmp_path / "metrics.jsonl")
    log.append({"step": 1}, {"step": 2})
    with log.path.open("a") as stream:
        stream.write('{"step": 3, "lo')
    assert list(log.rows()) == [{"step": 1}, {"step": 2}]
    with pytest.raises(UserError, match="shorter than its checkpoint says"):
        log.truncate(10_000)


def test_the_line_shows_units_and_eta(capsys):
    ProgressLine(10, 0).show(5, "6.100 bits/char", 1234.0, 0.5)
    shown = capsys.readouterr().err
    assert " left · 6.100 bits/char · 1.2 k tokens/s · 50% of matmul peak" in shown
    assert shown.startswith("step 5/10 · ")


def test_flush_denormals_is_on_during_training():
    trainer(settings(max_steps=1))
    assert (torch.tensor([1e-39]) * 0.5).item() == 0.0


def test_the_learning_rate_stands_in_every_row(tmp_path):
    config = settings()
    trainer(config).run([metrics(tmp_path)])
    rows = list(RunDirectory(tmp_path).log("metrics").rows())
    peak, steps = config.optimizer.learning_rate, config.max_steps
    wanted = [peak * learning_rate_factor(config.schedule, step, steps) for step in range(steps)]
    assert [row["lr"] for row in rows] == pytest.approx(wanted)
