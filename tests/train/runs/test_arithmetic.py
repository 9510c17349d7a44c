"""How far a run that goes on equals one that was never stopped."""

import json

import pytest

from congling.core.rundir import RunDirectory
from congling.model.checkpoint import save_model
from congling.train.runs.arithmetic import equality, facts, other_bits, settle
from congling.train.runs.checkpoints import save
from support.training_doubles import settings, trainer


@pytest.fixture
def run(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    return RunDirectory(tmp_path)


def test_what_changed_is_named_with_the_level_that_holds():
    now = facts(trainer(settings(sums="ordered")))
    assert "processes" not in now
    assert equality(now, now, fixed_rows=True).level == "bits"
    threads = equality(now | {"threads": 7}, now, fixed_rows=True)
    assert (threads.level, len(threads.changes)) == ("order", 1) and "threads: 7 →" in str(threads)
    assert equality(None, now, fixed_rows=True).level == "order"
    assert equality(None, now, fixed_rows=False).level == "none"
    assert equality(now | {"processes": 3}, now, fixed_rows=True).level == "order"
    assert equality(now | {"processes": 3}, now, fixed_rows=False).level == "none"
    assert equality(now | {"threads": 7}, now, fixed_rows=False).level == "none"
    foreign = equality(now | {"torch": "\x1b[2J" + "9" * 1000}, now, fixed_rows=True)
    assert "\x1b" not in str(foreign) and len(str(foreign)) < 300


@pytest.mark.parametrize(
    "cut, world, said", [(1, 1, False), (8, 4, False), (1, 2, True), (6, 3, True), (6, 4, True)]
)
def test_processes_that_round_otherwise_than_one_are_told_at_the_start(cut, world, said):
    one = trainer(settings(sums="ordered", gradient_accumulation_steps=cut))
    one.backend.world = world
    note = other_bits(one)
    assert (note is not None) is said and (not said or str(cut) in note)
    one.backend.ordered = False
    assert other_bits(one) is None


@pytest.mark.parametrize(
    "recorded, ordered", [("as it is", True), (None, False), ({"sums": "sequential"}, False), ([1], False)]
)
def test_a_run_goes_on_in_the_order_it_began_with(run, recorded, ordered):
    first = trainer(settings())
    assert settle(first, run, 0) is None and first.backend.ordered
    first.step = 2
    state = save(first, run, save_model, tokenizer=None, parents={}) / "state" / "state.json"
    values = json.loads(state.read_text())
    if recorded != "as it is":
        values.pop("arithmetic")
        state.write_text(json.dumps(values if recorded is None else values | {"arithmetic": recorded}))
    again = trainer(settings())
    assert (settle(again, run, 2).level == "bits") is ordered and again.backend.ordered is ordered
    asked = trainer(settings(sums="ordered"))
    assert settle(asked, run, 2).level == ("bits" if ordered else "order") and asked.backend.ordered
