"""Kill a training process anywhere, run the same command again: it ends with the bytes of one left alone."""

import importlib.util
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from congling.core import artifact
from congling.core.errors import UserError
from congling.data import corpus, shards
from congling.data.config import DataConfig
from congling.methods import pretrain
from congling.methods.inputs import open_inputs
from congling.tokenizer import training
from congling.tokenizer.config import TokenizerConfig

PROGRAM = Path(__file__).with_name("pretraining_program.py")
_spec = importlib.util.spec_from_file_location("pretraining_program", PROGRAM)
program = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(program)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny corpus, its tokenizer and its shards; and a run of it that nobody disturbed."""
    root = tmp_path_factory.mktemp("kill")
    draw = random.Random(0)
    lines = [
        "".join(draw.choice("天地山水花鸟风月日春秋人家国") for _ in range(draw.randint(10, 60)))
        for _ in range(50)
    ]
    (root / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    corpus.make(DataConfig(sources=(str(root / "text.txt"),), documents="line"), root / "documents")

    def texts():
        return (document.text for document in corpus.documents(root / "documents", "train"))

    training.train(TokenizerConfig(kind="character"), texts, root / "tokenizer")
    shards.write(root / "documents", root / "tokenizer", root / "shards")
    in_process(root, root / "alone")
    return root


def in_process(root, out, **changes):
    inputs = open_inputs(root / "shards", root / "tokenizer")
    config = program.configuration(inputs.shards.vocab_size)
    train = config.train.replace(**changes)
    return pretrain.run(config.replace(train=train.model_dump()), inputs, out)


def started(root, out):
    command = [sys.executable, str(PROGRAM), str(root / "shards"), str(root / "tokenizer"), str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_for(process, condition):
    """Poll until the condition holds; false when the process ended before."""
    while process.poll() is None:
        if condition():
            return True
        time.sleep(0.0005)
    return False


def rows(out):
    file = out / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.is_file() else 0


def contents(out):
    """All that must not depend on interruptions: logs, and the files of the last checkpoint."""
    last = out / "checkpoints" / f"step-{program.STEPS:08d}"
    files = [*(out / f"{name}.jsonl" for name in ("metrics", "samples"))]
    files += [last / name for name in artifact.opened(last, "checkpoint", verify=True).files]
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in files}


def events(out):
    return [
        json.loads(line)["event"] for line in (out / "events.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def test_a_run_killed_at_random_points_ends_with_the_same_bytes(made):
    out, draw = made / "killed", random.Random(7)
    reached = 0
    for at_a_checkpoint in (False, True):
        process = started(made, out)
        reached += draw.randint(8, 20)
        assert wait_for(process, lambda least=reached: rows(out) >= least)
        if at_a_checkpoint:
            assert wait_for(process, lambda: any(out.glob("checkpoints/.step-*")))
        else:
            time.sleep(draw.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stderr.close()
    process = started(made, out)
    assert wait_for(process, lambda: rows(out) > reached + 4)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "run the same command again" in message
    in_process(made, out)
    assert contents(out) == contents(made / "alone")
    assert not list(out.glob("checkpoints/.step-*"))
    assert events(out).count("resumed") >= 2  # after the second kill and after Ctrl-C


@pytest.mark.parametrize("damage", ["cut short", "changed", "missing"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_used(made, tmp_path, capsys, damage):
    out = tmp_path / "run"
    shutil.copytree(made / "alone", out)
    file = out / "checkpoints" / f"step-{program.STEPS:08d}" / "state" / "optimizer.safetensors"
    whole = file.read_bytes()
    match damage:
        case "cut short":
            file.write_bytes(whole[: len(whole) // 2])
        case "changed":
            file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        case "missing":
            file.unlink()
    in_process(made, out)
    assert "damaged and set aside" in capsys.readouterr().err
    assert "damaged checkpoint" in events(out)
    assert file.parent.parent.with_name(f"step-{program.STEPS:08d}.damaged").is_dir()
    assert contents(out) == contents(made / "alone")


def test_nothing_is_trained_when_every_checkpoint_is_damaged(made, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(made / "alone", out)
    for file in out.glob("checkpoints/step-*/model.safetensors"):
        file.write_bytes(b"")
    with pytest.raises(UserError, match="no checkpoint of this run is whole"):
        in_process(made, out)


def test_a_finished_run_is_left_as_it_is(made):
    before = contents(made / "alone")
    in_process(made, made / "alone")
    assert contents(made / "alone") == before


def test_a_changed_configuration_is_refused_by_name(made):
    with pytest.raises(
        UserError, match=r"other settings: 'train\.per_device_train_batch_size, train\.ema_decay'"
    ):
        in_process(made, made / "alone", per_device_train_batch_size=8, ema_decay=0.5)
    in_process(made, made / "alone", save_total_limit=7)
    in_process(made, made / "alone")


def test_a_step_may_be_cut_into_smaller_parts_when_a_run_goes_on(made, tmp_path):
    """What the message about memory says to type works in the run that ran out of it, and learns the same."""
    out = tmp_path / "run"
    shutil.copytree(made / "alone", out)
    shutil.rmtree(out / "checkpoints" / f"step-{program.STEPS:08d}")
    with pytest.raises(UserError, match="other settings"):
        in_process(made, out, per_device_train_batch_size=2, gradient_accumulation_steps=2)
    in_process(made, out, per_device_train_batch_size=2, gradient_accumulation_steps=4)
    assert (out / "checkpoints" / f"step-{program.STEPS:08d}").is_dir() and rows(out) == rows(made / "alone")
    assert "per_device_train_batch_size = 2" in (
        out / "config.toml"
    ).read_text() and "settings changed" in events(out)
    before, after = (
        [json.loads(line) for line in (one / "metrics.jsonl").read_text().splitlines()]
        for one in (made / "alone", out)
    )
    losses = [[row["loss"] for row in one if "loss" in row] for one in (before, after)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)  # dropout falls elsewhere


def test_other_shards_are_refused(made, tmp_path):
    other = tmp_path / "shards"
    shutil.copytree(made / "shards", other)
    with (other / "extra.json").open("w") as stream:
        stream.write("{}")
    opened = artifact.opened(other, "shards")
    artifact.seal(other, "shards", parents={}, facts=opened.facts)
    inputs = open_inputs(other, made / "tokenizer")
    with pytest.raises(UserError, match="this run was made from other shards"):
        pretrain.run(program.configuration(inputs.shards.vocab_size), inputs, made / "alone")


def test_there_must_be_something_to_resume_when_asked_to(made, tmp_path):
    inputs = open_inputs(made / "shards", made / "tokenizer")
    with pytest.raises(UserError, match="there is no run to resume"):
        pretrain.run(
            program.configuration(inputs.shards.vocab_size), inputs, tmp_path / "none", must_resume=True
        )
