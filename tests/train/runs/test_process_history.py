"""How processes that trained here ended; one that vanished is named by the next."""

import pytest

from congling.core import machine
from congling.core.errors import Interrupted
from congling.core.rundir import RunDirectory
from congling.train.runs.process_history import recorded, vanished
from congling.train.runs.train import RunParts, train
from support.training_doubles import settings, trainer


def names(path):
    return [row["event"] for row in RunDirectory(path).log("events").rows()]


def test_every_end_is_written_down(tmp_path):
    one, run = trainer(settings()), RunDirectory(tmp_path)
    for error in (Interrupted("signal"), ValueError("first line\nsecond"), None):
        try:
            with recorded(run, one, 0):
                if error is not None:
                    raise error
        except (Interrupted, ValueError):
            pass
        assert vanished(run) is None
    assert names(tmp_path) == ["started", "stopped", "started", "failed", "started", "finished"]
    failed = [row for row in run.log("events").rows() if row["event"] == "failed"]
    assert failed[0]["reason"] == "ValueError: first line"


def test_a_process_that_vanished_is_named_with_what_is_known(tmp_path, monkeypatch, capsys):
    run = RunDirectory(tmp_path)
    run.event("started", step=0, memory_kills=3, boot="now")
    run.log("timing").append({"step": 7, "seconds": 1.0, "tokens_per_second": 1.0, "memory": 2**31})
    monkeypatch.setattr(machine, "kills_for_memory", lambda: 4)
    monkeypatch.setattr(machine, "boot", lambda: "now")
    text = vanished(run)
    assert text is not None and "vanished without a word" in text
    assert "killed 1 process for lack of memory" in text and "at step 7" in text
    monkeypatch.setattr(machine, "boot", lambda: "later")  # counts of another start say nothing
    assert "lack of memory" not in (vanished(run) or "")
    config = settings(max_steps=2)
    train(trainer(config), tmp_path / "run", RunParts(config))
    assert "vanished" not in capsys.readouterr().err
    (tmp_path / "again").mkdir()
    RunDirectory(tmp_path / "again").event("resumed", step=1)
    train(trainer(config), tmp_path / "again", RunParts(config))
    assert "vanished without a word" in capsys.readouterr().err
    assert names(tmp_path / "again") == ["resumed", "vanished", "started", "finished"]


@pytest.mark.parametrize("text", ["", "oom_kill", "oom_kill many\n", "pgfault 3\n"])
def test_a_system_that_does_not_count_is_no_error(tmp_path, monkeypatch, text):
    file = tmp_path / "vmstat"
    file.write_text(text)
    monkeypatch.setattr(machine, "KILLS", (str(file), str(tmp_path / "none")))
    assert machine.kills_for_memory() is None


def test_the_count_is_read(tmp_path, monkeypatch):
    (tmp_path / "events").write_text("low 0\noom 5\noom_kill 2\n")
    monkeypatch.setattr(machine, "KILLS", (str(tmp_path / "none"), str(tmp_path / "events")))
    assert machine.kills_for_memory() == 2
