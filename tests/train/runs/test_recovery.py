"""A spike of the loss: said at once; gone back from where asked; and just the same after a kill."""

import json

import pytest
import torch

from congling.core.errors import Interrupted, UserError
from congling.train.runs.train import RunParts, train
from support.training_doubles import settings, trainer

STEPS = 40


def started(tmp_path, broken=(), *, by="batch", hooks=(), **changes):
    """A run whose rate is a thousand times too high at some batches, or at some steps whatever they learn."""
    given = {
        "max_steps": STEPS,
        "save_steps": 5,
        "ema_decay": 0.9,
        "schedule": {"kind": "wsd", "warmup_ratio": 0.1, "decay_ratio": 0.1},
    }
    config = settings(**(given | changes))
    one = trainer(config)
    usual = one.lr_factor

    def rate(step):
        place = one.batch_of(step) if by == "batch" else step
        return usual(step) * (1000 if place in broken else 1)

    one.lr_factor = rate
    return one, lambda: train(one, tmp_path, RunParts(config, hooks=hooks))


def events(path, kind):
    rows = [json.loads(line) for line in (path / "events.jsonl").read_text().splitlines()]
    return [row for row in rows if row["event"] == kind]


def logged(path):
    return (path / "metrics.jsonl").read_bytes()


def losses(path):
    return {row["step"]: row["loss"] for line in logged(path).splitlines() for row in [json.loads(line)]}


def test_a_spike_is_an_event_and_a_line_within_five_steps(tmp_path, capsys):
    one, go = started(tmp_path, broken=range(20, 25))
    go()
    (spike,) = [row for row in events(tmp_path, "spike") if row["code"] == "loss-spike"]
    assert 21 < spike["step"] <= 25 and spike["onset"] == 22
    assert spike["value"] > 2 * spike["usual"]
    said = [line for line in capsys.readouterr().err.splitlines() if "loss-spike" in line]
    assert len(said) == 1 and "train.on_spike=rollback" in said[0] and "the loss rose from" in said[0]
    assert one.step == STEPS and one.rollbacks == 0


def test_an_ordinary_run_says_nothing(tmp_path, capsys):
    started(tmp_path)[1]()
    assert not events(tmp_path, "spike") and "warning" not in capsys.readouterr().err


def test_going_back_restores_everything_and_passes_over_the_batches(tmp_path, capsys):
    seen = []
    hooks = [lambda now: seen.append(now.batch_of(now.step - 1))]
    go = started(tmp_path, broken=range(22, 27), on_spike="rollback", hooks=hooks)[1]
    go()
    (back,) = events(tmp_path, "rolled back")
    assert back["to"] == 15 and back["step"] <= 27  # that of step 20 is too close to the spike
    first, count = back["skipped_batches"]
    assert (first, first + count) == (15, back["step"] + 5)
    assert seen == [*range(back["step"] - 1), *range(15 + count, STEPS + count)]  # noticed before other hooks
    assert list(losses(tmp_path)) == list(range(1, STEPS + 1)) and max(losses(tmp_path).values()) < 10
    state = json.loads((tmp_path / f"checkpoints/step-{STEPS:08d}/state/state.json").read_text())
    assert state["rollbacks"] == 1
    assert state["skipped_batches"] == [{"step": 15, "first": first, "count": count}]
    assert "back to the checkpoint of step 15" in capsys.readouterr().err


def test_it_is_the_run_that_never_saw_those_batches(tmp_path):
    """Weights and averages are, to the bit, those of a run whose batches were others from the start."""
    one, go = started(tmp_path / "back", broken=range(22, 27), on_spike="rollback")
    go()
    (skipped,) = one.skipped
    other, go = started(tmp_path / "clean")
    whole = other.batches
    other.batches = lambda step, rank, world: whole(
        step if step < skipped.step else step + skipped.count, rank, world
    )
    go()
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name
    for name, value in one.ema.average.items():
        assert torch.equal(value, other.ema.average[name]), name


@pytest.mark.parametrize("killed", [23, 31])
def test_a_run_that_is_killed_anywhere_goes_back_just_the_same(tmp_path, killed):
    broken = range(22, 27)
    whole, go = started(tmp_path / "whole", broken=broken, on_spike="rollback")
    go()

    def power_cut(one):
        if one.batch_of(one.step) == killed:
            raise Interrupted("power cut")

    _, go = started(tmp_path / "cut", broken=broken, on_spike="rollback", hooks=[power_cut])
    with pytest.raises(Interrupted):
        go()
    again, go = started(tmp_path / "cut", broken=broken, on_spike="rollback")
    go()
    assert again.skipped == whole.skipped and again.rollbacks == whole.rollbacks == 1
    assert logged(tmp_path / "cut") == logged(tmp_path / "whole")
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])


def test_three_times_at_most_then_the_run_ends_with_the_reasons(tmp_path):
    go = started(tmp_path, broken=range(22, 27), by="step", on_spike="rollback")[1]
    with pytest.raises(UserError, match=r"the loss rose from .* for the 4th time") as error:
        go()
    assert "train.optimizer.learning_rate" in str(error.value)
    backs = events(tmp_path, "rolled back")
    assert [row["attempt"] for row in backs] == [1, 2, 3]
    ends = [row["skipped_batches"][0] + row["skipped_batches"][1] for row in backs]
    assert ends == sorted(set(ends))  # other batches each time


def test_a_spike_before_the_first_checkpoint_goes_back_to_the_beginning(tmp_path):
    one, go = started(tmp_path, broken=range(8, 11), on_spike="rollback", save_steps=20)
    go()
    (back,) = events(tmp_path, "rolled back")
    assert back["to"] == 0 and one.step == STEPS and max(losses(tmp_path).values()) < 10


def test_stop_ends_the_run_and_keeps_what_was_good(tmp_path):
    one, go = started(tmp_path, broken=range(22, 27), on_spike="stop")
    with pytest.raises(UserError, match="stopped: at step 2[2-7] the loss rose from") as error:
        go()
    assert "train.on_spike=rollback" in str(error.value)
    assert one.step <= 27 and (tmp_path / "checkpoints/step-00000020").is_dir()


@pytest.mark.parametrize("interval", [1, 5])
def test_reading_the_metrics_late_decides_the_same(tmp_path, interval):
    one, go = started(
        tmp_path, broken=range(22, 27), on_spike="rollback", logging_steps=interval, save_steps=3
    )
    go()
    (back,) = events(tmp_path, "rolled back")
    assert (back["to"], back["step"], one.skipped[0].count) == (18, 24, 11)


def test_an_average_stays_where_a_step_is_skipped(tmp_path):
    one, _ = started(tmp_path)
    micro = one.batches(0, 0, 1)
    one.train_step(micro)
    before = {name: value.clone() for name, value in one.ema.average.items()}
    for parameter in one.model.parameters():
        parameter.register_hook(lambda gradient: gradient * float("nan"))
    assert one.train_step(micro)["skipped"]
    assert all(torch.equal(value, one.ema.average[name]) for name, value in before.items())
