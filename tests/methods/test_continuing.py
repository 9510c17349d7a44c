"""A finished run that is made longer ends with the bytes of one that had the later end from the start."""

import json
import shutil

import pytest
import tomli_w

from congling.core import artifact
from congling.core.config import read_toml
from congling.core.errors import Interrupted, UserError
from congling.core.rundir import RunDirectory
from congling.methods import pretrain
from congling.methods.continuing import continued
from congling.model.families import FAMILIES
from congling.report import record
from congling.train.config import TrainConfig
from congling.train.runs import longer
from congling.train.runs.train import train

STEPS = 12


def config(inputs, **changes):
    """Dropout, an average and samples: everything that could depend on where a run ends."""
    model = FAMILIES["qwen3"](
        vocab_size=inputs.shards.vocab_size,
        max_position_embeddings=16,
        num_hidden_layers=1,
        hidden_size=32,
        dropout=0.1,
    )
    settings = {
        "max_steps": STEPS,
        "max_length": 16,
        "per_device_train_batch_size": 2,
        "device": "cpu",
        "precision": "fp32",
        "ema_decay": 0.9,
        "eval_steps": 3,
        "sample_steps": 4,
        "sample_prompts": ("天",),
        "sample_tokens": 4,
        "save_steps": 5,
        "save_total_limit": 1,
        **changes,
    }
    return pretrain.PretrainConfig(model=model, train=TrainConfig(**settings))


def trained(inputs, out, asked=None, **changes):
    """As ``begin_or_go_on`` does it, without a recipe and its plan."""
    now = continued(config(inputs, **changes), RunDirectory(out), asked)
    run = pretrain.run(now, inputs, out)
    longer.finish(run)
    return run


def contents(run):
    """All that a run hands on, but for settings: logs, and the files of its last checkpoint."""
    last = run.pointed("LATEST")
    found = {name: (run.path / f"{name}.jsonl").read_bytes() for name in ("metrics", "samples")}
    for name in artifact.opened(last, "checkpoint", verify=True).files:
        if name != "state/state.json":
            found[name] = (last / name).read_bytes()
    state = json.loads((last / "state" / "state.json").read_text())
    return found | {"state": {key: state[key] for key in ("step", "tokens", "best", "logs")}}


@pytest.fixture(scope="module")
def finished(inputs, tmp_path_factory):
    return trained(inputs, tmp_path_factory.mktemp("finished") / "run").path


@pytest.fixture
def out(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize(
    "schedule",
    [
        {},
        {"warmup_ratio": 0.25},  # 3 steps of 12, but 5 of 20
        {"decay_ratio": 0.2, "decay_type": "1-sqrt", "min_lr_ratio": 0.1},
        {"decay_ratio": 1.0, "warmup_ratio": 0.1},
        {"decay_ratio": 0.0},
    ],
)
def test_it_ends_with_the_bytes_of_a_run_that_had_the_later_end_from_the_start(inputs, tmp_path, schedule):
    schedule = {"kind": "wsd", **schedule}
    made = trained(inputs, tmp_path / "longer", schedule=schedule)
    assert longer.step_of(made.pointed("LATEST")) == STEPS
    made = trained(inputs, tmp_path / "longer", "8steps", schedule=schedule)
    warmup = round(schedule.get("warmup_ratio", 0.02) * STEPS)
    whole = trained(
        inputs, tmp_path / "whole", max_steps=STEPS + 8, schedule=schedule | {"warmup_steps": warmup}
    )
    assert contents(made) == contents(whole)
    for name in ("LATEST", "BEST", "BEFORE_DECAY"):
        assert (made.path / name).read_text() == (whole.path / name).read_text(), name
    assert sorted(one.name for one in made.checkpoints()) == sorted(one.name for one in whole.checkpoints())


def test_a_second_time_it_becomes_longer_still(inputs, out, tmp_path):
    trained(inputs, out, "4steps")
    made = trained(inputs, out, "4steps")
    assert contents(made) == contents(trained(inputs, tmp_path / "whole", max_steps=STEPS + 8))
    assert [row.steps for row in longer.read(made)] == [16, 20]


def test_the_plain_command_goes_on_where_the_longer_one_was_stopped(inputs, out, tmp_path):
    now = continued(config(inputs), RunDirectory(out), "8steps")
    assert now.train.max_steps == 20

    for asked in ("8steps", None):  # the same command, and the one without --longer
        again = continued(config(inputs), RunDirectory(out), asked)
        assert again == now
    made = pretrain.run(now, inputs, out)
    assert contents(made) == contents(trained(inputs, tmp_path / "whole", max_steps=20))


def test_the_same_command_after_an_interruption_makes_it_no_longer(inputs, out, monkeypatch):
    def stopped(trainer, *arguments, **options):
        raise Interrupted("stopped")

    monkeypatch.setattr("congling.methods.pretrain.train", stopped)
    for _ in range(2):
        with pytest.raises(Interrupted):
            trained(inputs, out, "8steps")
    monkeypatch.setattr("congling.methods.pretrain.train", train)
    trained(inputs, out, "8steps")
    assert [(row.steps, row.done) for row in longer.read(RunDirectory(out))] == [(20, True)]


def test_nothing_of_the_first_end_misleads(inputs, out, capsys):
    run = RunDirectory(out)
    record.add_result(out, "held_out", {"bits_per_character": 1.0})
    record.add_result(out, "seconds", 5.0)
    record.add_result(out, "scores", {"letters": {"value": 1, "step": STEPS}})
    (out / "report").mkdir()
    (out / "report" / "report.html").write_text("old")
    handed_on = run.pointed("BEST").name
    continued(config(inputs), run, "8steps")
    said = capsys.readouterr().err
    assert "goes on from step 6," in said and "to step 20 instead of 12" in said
    assert str(out / "endings" / handed_on) in said
    assert artifact.opened(out / "endings" / handed_on, "checkpoint", verify=True)
    assert not (out / "report").exists()
    assert json.loads((out / "results.json").read_text()) == {
        "scores": {"letters": {"value": 1, "step": STEPS}}
    }
    assert [longer.step_of(one) for one in run.checkpoints()] == [6]
    assert longer.step_of(run.pointed("LATEST")) == 6
    assert longer.step_of(run.pointed("BEST")) <= 6
    assert read_toml(out / "config.toml")["train"]["max_steps"] == 20


def test_time_is_turned_into_steps_by_the_pace_of_the_run(inputs, out):
    seconds = max(record.read(out).seconds_at().values())
    now = continued(config(inputs), RunDirectory(out), f"{max(1, round(1000 * seconds))}s")
    assert now.train.max_steps == pytest.approx(
        STEPS + STEPS * max(1, round(1000 * seconds)) / seconds, rel=0.01
    )


@pytest.mark.parametrize(
    "asked", ["", "soon", "0s", "0steps", "-3steps", "1.5steps", "steps", "30", "xsteps"]
)
def test_what_is_no_amount_is_refused(inputs, out, asked):
    with pytest.raises(UserError, match="--longer says by how much"):
        continued(config(inputs), RunDirectory(out), asked)
    assert not (out / "longer.json").exists()


def test_without_the_checkpoint_before_the_decay_the_honest_choices_are_named(inputs, out):
    for path in RunDirectory(out).checkpoints():
        if longer.step_of(path) <= 6:
            shutil.rmtree(path)
    with pytest.raises(UserError, match="step 6, after which the rate fell, is not there") as refused:
        continued(config(inputs), RunDirectory(out), "8steps")
    assert "--fresh" in str(refused.value) and "--from" in str(refused.value)
    assert trained(inputs, out).pointed("LATEST") is not None  # nothing has changed


def test_an_older_checkpoint_of_the_full_rate_is_as_good(inputs, tmp_path):
    made = trained(inputs, tmp_path / "run", save_total_limit=9)
    shutil.rmtree(made.checkpoint(6))
    made = trained(inputs, tmp_path / "run", "8steps", save_total_limit=9)
    assert contents(made) == contents(trained(inputs, tmp_path / "whole", max_steps=20))


def test_a_schedule_that_knows_its_end_is_no_run_to_make_longer(inputs, tmp_path):
    cosine = {"kind": "cosine"}
    trained(inputs, tmp_path / "run", schedule=cosine)
    with pytest.raises(UserError, match="depends on its end from the first step on"):
        continued(config(inputs, schedule=cosine), RunDirectory(tmp_path / "run"), "8steps")


def test_a_run_that_is_not_there_cannot_become_longer(inputs, tmp_path):
    with pytest.raises(UserError, match="there is no run to make longer"):
        continued(config(inputs), RunDirectory(tmp_path / "absent"), "8steps")


@pytest.mark.parametrize("content", ["{}", "[1]", "[" * 10_000, '[{"asked": "8steps"}]', "\xff", "[{}]"])
def test_a_record_that_cannot_be_read_is_named(inputs, out, content):
    (out / "longer.json").write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match="record of how this run was made longer"):
        continued(config(inputs), RunDirectory(out))


EDITS = {
    "train.optimizer.learning_rate": 13.0,
    "train.optimizer.weight_decay": 0.5,
    "train.seed": 5,
    "train.max_steps": 99,
    "train.ema_decay": 0.5,
    "train.per_device_train_batch_size": 3,
    "train.max_grad_norm": 0.0,
    "train.schedule.decay_ratio": 0.1,
    "train.document_mask": True,
    "model.dropout": 0.5,
    "model.positions.rope_theta": 5.0,
    "model.hidden_size": 64,
    "model.num_hidden_layers": 2,
}


@pytest.mark.parametrize("key", EDITS)
def test_settings_edited_between_stop_and_going_on_are_refused(inputs, out, key):
    for path in RunDirectory(out).checkpoints():
        if longer.step_of(path) > 6:
            shutil.rmtree(path)
    values = read_toml(out / "config.toml")
    table = values
    *tables, last = key.split(".")
    for name in tables:
        table = table[name]
    before, table[last] = table.get(last), EDITS[key]
    (out / "config.toml").write_text(tomli_w.dumps(values), encoding="utf-8")
    edited = read_toml(out / "config.toml")
    asked = pretrain.PretrainConfig.model_validate(edited)  # as a run from a recipe takes it from there
    ways = [lambda: continued(asked, RunDirectory(out)), lambda: pretrain.run(asked, inputs, out)]
    for go_on in ways if last in ("learning_rate", "hidden_size", "max_steps") else ways[:1]:
        with pytest.raises(UserError) as refused:
            go_on()
        assert f"was trained with: '{key}" in str(refused.value)
        shown = (
            "train.per_device_train_batch_size × gradient_accumulation_steps"
            if key == "train.per_device_train_batch_size"
            else key
        )  # the micro-batch alone may change
        assert f"{shown} {str(before).lower() if isinstance(before, bool) else before} → " in str(
            refused.value
        )


def test_what_does_not_touch_the_weights_may_change_and_is_written_down(inputs, out):
    changed = {
        "save_steps": 4,
        "eval_steps": 2,
        "save_total_limit": 3,
        "logging_steps": 2,
        "sample_tokens": 2,
    }
    run = trained(inputs, out, **changed)
    assert changed.items() <= read_toml(out / "config.toml")["train"].items()
    events = [row for row in run.log("events").rows() if row["event"] == "settings changed"]
    assert len(events) == 1 and "train.save_steps 5 → 4" in events[0]["changes"]
    trained(inputs, out, **changed)
    assert sum(row["event"] == "settings changed" for row in run.log("events").rows()) == 1


def test_old_checkpoints_without_settings_are_gone_on_from(inputs, out):
    for path in RunDirectory(out).checkpoints():
        file = path / "state" / "state.json"
        state = json.loads(file.read_text())
        del state["settings"]
        file.write_text(json.dumps(state))
        opened = artifact.opened(path, "checkpoint")
        parents = {name: artifact.Artifact(path, "", value, {}, {}) for name, value in opened.parents.items()}
        artifact.seal(path, "checkpoint", parents=parents, facts=opened.facts)
    assert trained(inputs, out).pointed("LATEST") is not None
    assert longer.step_of(trained(inputs, out, "8steps").pointed("LATEST")) == 20
