"""Which checkpoints stay, and what the pointers name when nobody had the time to write them."""

import json

import pytest

from congling.core import artifact
from congling.core.rundir import RunDirectory
from congling.model.checkpoint import save_model
from congling.train.runs import retention
from congling.train.runs.checkpoints import save
from congling.train.runs.resuming import resume
from support.training_doubles import settings, trainer


@pytest.fixture
def run(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    return RunDirectory(tmp_path)


def saved(run, steps, *, best, **changes):
    """Checkpoints of one trainer; ``best`` is what it held for the best at each of them."""
    one = trainer(settings(max_steps=20, **changes))
    for step, then in zip(steps, best, strict=True):
        one.step, one.best = step, None if then is None else {"step": then, "loss": 1.0}
        save(one, run, save_model, tokenizer=None, parents={})
    return one


def steps(run):
    return sorted(int(path.name[-8:]) for path in run.checkpoints())


def pointed(run):
    found = {name: run.pointed(name) for name in retention.POINTERS}
    return {name: path and int(path.name[-8:]) for name, path in found.items()}


@pytest.mark.parametrize("lost", [(), ("LATEST",), ("BEST",), ("BEFORE_DECAY",), retention.POINTERS])
@pytest.mark.parametrize("stale", [False, True])
def test_pointers_that_a_kill_left_behind_are_put_right_by_going_on(run, lost, stale):
    saved(run, (4, 10, 16, 20), best=(4, 4, 16, 16), save_total_limit=9)
    for name in lost:
        if stale:
            run.point(name, run.checkpoint(4))
        else:
            run.forget(name)
    again = trainer(settings(max_steps=20, save_total_limit=9))
    assert resume(again, run, {}) == 20
    assert pointed(run) == {"LATEST": 20, "BEST": 16, "BEFORE_DECAY": 10}


def test_a_best_that_nobody_knows_any_more_is_not_pointed_to(run):
    saved(run, (4, 8), best=(4, 8), load_best_model_at_end=False)
    again = trainer(settings(max_steps=20))
    (run.path / "checkpoints" / "step-00000008" / "MANIFEST.json").unlink()
    assert resume(again, run, {}) == 4
    assert pointed(run) == {"LATEST": 4, "BEST": 4, "BEFORE_DECAY": None}
    saved(run, (4,), best=(None,))
    assert resume(trainer(settings(max_steps=20)), run, {}) == 4
    assert not (run.path / "BEST").exists()


def test_the_best_stays_although_nothing_points_to_it(run):
    one = saved(run, (2, 4), best=(2, 2), save_total_limit=1)
    run.forget("BEST")
    one.step = 6
    save(one, run, save_model, tokenizer=None, parents={})
    assert steps(run) == [2, 6] and pointed(run)["BEST"] == 2


def test_what_a_longer_run_begins_from_stays_with_its_best(run):
    saved(run, (2, 6, 10, 12, 14, 16, 20), best=(2, 2, 2, 12, 14, 14, 20), save_total_limit=1)
    assert steps(run) == [2, 10, 20]  # the best at step 10, the last of the full rate, the newest and best
    assert retention.best_at(run.checkpoint(10)) == 2


def test_a_checkpoint_that_was_being_removed_is_gone(run):
    saved(run, (2, 4), best=(2, 4), save_total_limit=9)
    run.checkpoint(2).rename(run.path / "checkpoints" / ".step-00000002.gone-99999999")
    retention.clear_leftovers(run)
    assert [path.name for path in (run.path / "checkpoints").iterdir()] == ["step-00000004"]


@pytest.mark.parametrize("content", ["", "../../elsewhere\n", "step-00000099\n", "\x00", "\xff\xfe", "/etc"])
def test_a_pointer_leads_to_nothing_but_a_checkpoint_of_its_run(run, content):
    saved(run, (2,), best=(2,))
    (run.path / "BEST").write_bytes(content.encode("latin-1"))
    assert run.pointed("BEST") is None
    assert resume(trainer(settings(max_steps=20)), run, {}) == 2
    assert pointed(run)["BEST"] == 2


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"best": 3}', '{"best": {"step": "x"}}', "[" * 10_000])
def test_a_state_that_says_nothing_has_no_best(run, content):
    folder = run.checkpoint(2)
    with artifact.writing(folder, "checkpoint") as made:
        (made / "state").mkdir()
        (made / "state" / "state.json").write_text(content)
    assert retention.best_at(folder) is None


def test_every_checkpoint_says_its_settings_and_their_fingerprint(run):
    one = trainer(settings(max_steps=20))
    one.step = 2
    path = save(one, run, save_model, tokenizer=None, parents={}, config=one.config)
    state = json.loads((path / "state" / "state.json").read_text())
    assert state["settings"]["optimizer"]["learning_rate"] == one.config.optimizer.learning_rate
    assert len(artifact.opened(path, "checkpoint").facts["settings"]) == 64
