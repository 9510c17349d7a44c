"""A budget is kept whatever the machine does; what was decided is replayed bit by bit."""

import json
import shutil
from itertools import pairwise
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file

from congling.core import artifact
from congling.core.config import build
from congling.core.errors import Interrupted
from congling.train.config import TrainConfig
from congling.train.loop import Trainer
from congling.train.objectives.next_token import next_token
from congling.train.runs import deadline as module
from congling.train.runs import metrics
from congling.train.runs.deadline import Deadline, DeadlineConfig, recorded
from congling.train.runs.hooks import keeping
from congling.train.runs.train import RunParts, train
from congling.train.runs.turns import Turn, factor_with
from congling.train.schedule import learning_rate_factor
from support.training_doubles import settings, trainer

BUDGET = 180.0


class Clock:
    """A clock that stands still unless somebody works."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def config(**changes):
    values = {"max_steps": 300, "max_length": 8, "eval_steps": 25, "sample_steps": 50, "save_steps": 15}
    return build(TrainConfig, values | changes)


def limits(**changes):
    planned = {
        "seconds": BUDGET,
        "most_steps": 5000,
        "step": 0.5,
        "evaluation": 0.6,
        "sampling": 0.8,
        "saving": 0.2,
        "evaluations_after": 8.0,
        "samplings_after": 6.0,
        "after": 2.0,
    }
    return DeadlineConfig(**(planned | changes))


def simulated(seconds, *, train=None, limited=None, before=10.0):
    """Run the clock without a model; ``seconds`` of a step at the time since the start, pauses alike."""
    train, limited, clock = train or config(), limited or limits(), Clock()
    found, began, rates, pauses, step = Deadline(limited, train, clock=clock), clock.now, [], {}, 0
    clock.now += before
    if (turn := found.look(0, {})) is not None:
        found.make(turn)
    while step < found.steps:
        rates.append(found.factor(step))
        speed = seconds(clock.now - began)
        clock.now += speed
        step += 1
        for name, every in (("evaluation", 25), ("sampling", 50)):
            if step % every == 0 or step == found.steps:
                took = getattr(limited, name) * speed / limited.step
                clock.now, pauses[name] = clock.now + took, took
        turn, pauses = found.look(step, pauses), {}
        if turn is not None:
            found.make(turn)
        if step % 15 == 0 or step == found.steps:
            clock.now, pauses["saving"] = clock.now + limited.saving, limited.saving
    slow = seconds(clock.now - began) / limited.step
    after = limited.evaluations_after * limited.evaluation + limited.samplings_after * limited.sampling
    return found, rates, clock.now - began + (after + limited.after) * slow


MACHINES = {
    "as planned": lambda at: 0.5,
    "half as fast": lambda at: 1.0,
    "a quarter as fast": lambda at: 2.0,
    "twice as fast": lambda at: 0.25,
    "slow from the middle on": lambda at: 0.5 if at < 90 else 1.1,
    "slow at the end": lambda at: 0.5 if at < 140 else 1.0,
    "fast from the middle on": lambda at: 1.1 if at < 90 else 0.5,
    "now and then": lambda at: 1.2 if int(at / 20) % 2 else 0.5,
    "stalls": lambda at: 4.0 if int(at * 7) % 11 == 0 else 0.5,
    "slow for a while": lambda at: 2.5 if 60 < at < 90 else 0.5,
}


@pytest.mark.parametrize("schedule", [
    {"kind": "wsd"}, {"kind": "wsd", "decay_ratio": 0.6, "decay_type": "1-sqrt"},
    {"kind": "wsd", "decay_ratio": 0.1}, {"kind": "wsd", "decay_ratio": 1.0},
    {"kind": "wsd", "decay_ratio": 0.0}, {"kind": "cosine"},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("machine", MACHINES)
def test_the_budget_is_kept_and_the_fall_finished(machine, schedule):
    found, rates, took = simulated(MACHINES[machine], train=config(schedule=schedule))
    assert 0.9 * BUDGET < took < 1.08 * BUDGET
    if schedule.get("decay_ratio") == 0.0:
        assert rates[-1] == 1.0
        return
    falling = rates[found.turns[0].step :] if found.turns else rates[len(rates) // 2 :]
    assert all(after <= before for before, after in pairwise(falling))
    assert rates[-1] < 0.3
    assert all(0 < rate <= 1 for rate in rates)


@pytest.mark.parametrize("late", [170.0, 179.0, 500.0])
def test_too_little_time_shortens_the_fall_and_ends(late):
    found, rates, _ = simulated(lambda at: 0.5, before=late)
    assert 1 <= len(rates) <= 8 and found.turns[0].steps == len(rates)


@pytest.mark.parametrize("shape", ["linear", "1-sqrt"])
@pytest.mark.parametrize("decay", [0.1, 0.5, 0.6, 0.97, 1.0])
@pytest.mark.parametrize("steps", [3, 20, 37, 300])
def test_steps_that_were_asked_for_are_taken_as_without_a_budget(steps, decay, shape):
    schedule = {
        "kind": "wsd",
        "decay_ratio": decay,
        "decay_type": shape,
        "min_lr_ratio": 0.1,
        "warmup_ratio": 0.05,
    }
    train = config(max_steps=steps, schedule=schedule)
    found, rates, _ = simulated(lambda at: 0.2, train=train, limited=limits(most_steps=steps))
    assert rates == [learning_rate_factor(train.schedule, step, steps) for step in range(steps)]
    assert {turn.steps for turn in found.turns} <= {steps}


def test_a_cosine_in_time_is_left_alone():
    train = config(schedule={"kind": "cosine"}, max_steps=276)
    found, rates, _ = simulated(lambda at: 0.5, train=train)
    assert not found.turns
    assert rates == [learning_rate_factor(train.schedule, step, 276) for step in range(276)]


def test_a_fast_machine_takes_no_more_than_the_text_bears():
    found, rates, took = simulated(lambda at: 0.1, limited=limits(most_steps=400))
    assert len(rates) == 400 and took < BUDGET / 2
    assert found.turns[0] == Turn(200, 400, found.turns[0].elapsed, found.turns[0].pace)


def test_going_back_to_a_checkpoint_keeps_time_and_turns():
    clock = Clock()
    found = Deadline(limits(), config(), clock=clock)
    for step in range(1, 200):
        clock.now += 0.7
        if (turn := found.look(step, {})) is not None:
            found.make(turn)
    turns, elapsed = list(found.turns), found.elapsed()
    found.restore({"elapsed": 30.0, "turns": []}, 60)
    assert found.turns == turns and found.elapsed() == elapsed
    for step in range(61, turns[-1].step + 1):
        clock.now += 0.7
        assert found.look(step, {}) is None
        assert found.factor(turns[0].step - 1) == 1.0
    assert found.look(turns[-1].step + 1, {}) is not None  # for the time that was lost


def test_later_turns_go_on_from_where_the_rate_is():
    schedule = config().schedule
    turns = [Turn(100, 200), Turn(150, 170), Turn(160, 260)]
    rates = [factor_with(schedule, 300, turns, step) for step in range(260)]
    assert rates[99] == 1.0 and rates[149] == pytest.approx(1 - 50 / 101)
    slopes = {start: rates[start - 1] - rates[start] for start in (101, 151, 161)}
    assert slopes[151] == pytest.approx((1 - 50 / 101) / 21)
    assert slopes[161] < slopes[101] < slopes[151]
    assert rates[-1] == pytest.approx(slopes[161])


class Machine:
    """A trainer whose clock follows its steps: so many seconds each."""

    def __init__(self, pace, *, steps=40, seconds=30.0, stop_at=None, **changes):
        self.taken, self.stop_at = 0, stop_at
        values = {
            "max_steps": steps,
            "save_steps": 4,
            "save_total_limit": 50,
            "eval_steps": 7,
            "ema_decay": 0.9,
        } | changes
        self.config = settings(**values)
        limited = DeadlineConfig(seconds=seconds, most_steps=100, step=0.5)
        made = trainer(self.config)
        found = Deadline(limited, self.config, clock=lambda: self.taken * pace)
        self.trainer = Trainer(
            made.model,
            self._batches(made.batches),
            next_token,
            self.config,
            made.backend,
            deadline=found,
            prefetch=0,
        )

    def _batches(self, batches):
        def counted(step, rank, world):
            self.taken += 1
            return batches(step, rank, world)

        return counted

    def run(self, out):
        hooks = () if self.stop_at is None else (self._stop,)
        parts = RunParts(self.config, evaluate=lambda model: {"loss": 1.0}, hooks=hooks)
        with pytest.MonkeyPatch.context() as patch:  # pauses take no time, however busy the real machine is
            patch.setattr(metrics, "time", SimpleNamespace(monotonic=lambda: 0.0))
            train(self.trainer, out, parts)
        return self.trainer

    def _stop(self, one):
        if one.step == self.stop_at:
            raise Interrupted("stopped by the test")


def outcome(out, step):
    """All that must be the same bits."""
    place = out / "checkpoints" / f"step-{step:08d}"
    files = [place / "model.safetensors", *sorted((place / "state").glob("*.safetensors"))]
    tensors = {file.name: load_file(file) for file in files}
    bits = {
        f"{file}:{name}": value.numpy().tobytes()
        for file, one in tensors.items()
        for name, value in one.items()
    }
    return (out / "metrics.jsonl").read_bytes(), bits


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("deadline") / "run"
    return out, Machine(0.7).run(out)


def test_the_end_follows_the_clock_and_is_recorded(whole):
    out, done = whole
    (turn,) = recorded(out)
    assert done.step == turn.steps == done.steps == 42  # 0.985 of 30 seconds at 0.7
    assert turn.step == 21
    state = json.loads((out / "checkpoints" / "step-00000042" / "state" / "state.json").read_text())
    assert [Turn(**one) for one in state["deadline"]["turns"]] == [turn]
    events = [row for row in (json.loads(line) for line in (out / "events.jsonl").read_text().splitlines())]
    assert [row["step"] for row in events if row["event"] == "turn"] == [21]
    assert (out / "checkpoints" / "step-00000021").is_dir()


@pytest.mark.parametrize("kept", [0, 8, 20, 21, 32])
@pytest.mark.parametrize("lost", [False, True])
def test_a_run_gone_on_with_replays_its_decision(whole, tmp_path, kept, lost):
    out = tmp_path / "run"
    shutil.copytree(whole[0], out)
    for place in (out / "checkpoints").glob("step-*"):
        if int(place.name[5:]) > kept:
            shutil.rmtree(place)
    if lost and kept >= 21:  # the checkpoints know as well
        (out / "schedule.json").write_text("{")
    again = Machine(50.0).run(out)  # no time is left by this clock
    assert again.step == 42
    assert outcome(out, 42) == outcome(whole[0], 42)


def test_a_run_stopped_before_its_decision_decides_when_it_is_gone_on_with(whole, tmp_path):
    with pytest.raises(Interrupted):
        Machine(0.7, stop_at=15).run(tmp_path)
    assert not recorded(tmp_path)
    done = Machine(1.4).run(tmp_path)  # 12 steps are saved, at 0.7; since then a step takes twice as long
    assert 25 <= done.step <= 27 and recorded(tmp_path)[0].step < done.step


def test_the_checkpoint_at_full_rate_stays(tmp_path):
    done = Machine(0.7, save_total_limit=1).run(tmp_path)
    stay = {int(place.name[5:]) for place in (tmp_path / "checkpoints").glob("step-*")}
    assert {done.deadline.began, done.step} <= stay and len(stay) <= 3


class Rank:
    """One of two processes: what the first says, the second hears."""

    def __init__(self, deadline, said, *, first):
        self.deadline, self.backend, self.step, self._said, self._first = deadline, self, 0, said, first

    def all_reduce_sum(self, value):
        if self._first:
            self._said.append(value)
        return self._said[-1] + (0 if self._first else value)


def test_the_first_process_decides_for_all(tmp_path):
    clock, said = Clock(), []
    ranks = [Rank(Deadline(limits(), config(), clock=clock), said, first=first) for first in (True, False)]
    ranks[0].deadline.open(tmp_path)
    line = SimpleNamespace(steps=0, note=lambda text: None)
    log = SimpleNamespace(pauses=dict, line=line, run=SimpleNamespace(event=lambda *_, **__: None))
    hooks = [keeping(ranks[0].deadline, log), keeping(ranks[1].deadline, None)]
    for step in range(250):
        clock.now += 0.6 if step < 160 else 1.1
        for rank, hook in zip(ranks, hooks, strict=True):
            rank.step = step
            hook(rank)
    decided = [[(turn.step, turn.steps) for turn in rank.deadline.turns] for rank in ranks]
    assert decided[0] == decided[1] and len(decided[0]) >= 2
    assert [(turn.step, turn.steps) for turn in recorded(tmp_path)] == decided[0]
    assert [rank.deadline.factor(200) for rank in ranks] == [ranks[0].deadline.factor(200)] * 2
    late = Deadline(limits(), config(), clock=clock)
    late.hear(ranks[0].deadline.told())
    assert late.turns == ranks[0].deadline.turns and late.look(201, {}) is None


@pytest.mark.parametrize("text", [
    "", "[]", "{}", '{"turns": 3}', '{"turns": [1]}', '{"turns": [{"step": 3, "steps": 2}]}',
    '{"turns": [{"step": "a", "steps": 9, "elapsed": 0, "pace": 0}]}',
    '{"turns": [{"step": 9, "steps": 2, "elapsed": 0, "pace": 0}]}',
])  # fmt: skip
def test_a_damaged_record_is_none(tmp_path, text):
    (tmp_path / module.SCHEDULE_FILE).write_text(text)
    assert recorded(tmp_path) == []


def test_a_record_with_a_flipped_digit_is_not_believed(tmp_path, capsys):
    turn = {"step": 5, "steps": 9, "elapsed": 0, "pace": 0}
    file = tmp_path / module.SCHEDULE_FILE
    artifact.write_sealed(file, {"turns": [turn]})
    assert [one.step for one in recorded(tmp_path)] == [5]
    file.write_bytes(file.read_bytes().replace(b'"step": 5', b'"step": 4'))
    assert recorded(tmp_path) == [] and "schedule.json cannot be read" in capsys.readouterr().err


def test_turns_out_of_order_are_none(tmp_path):
    turn = {"step": 5, "steps": 9, "elapsed": 0, "pace": 0}
    (tmp_path / module.SCHEDULE_FILE).write_text(json.dumps({"turns": [turn, turn]}))
    assert recorded(tmp_path) == []
