"""The runs of a folder, as they are: finished, stopped, running, damaged."""

import json
import os
import platform
import shutil
from pathlib import Path

import pytest

from congling.core.errors import UserError
from congling.report.listing import listed, run_directories, size_of
from support import synthetic


@pytest.fixture
def folder(tmp_path):
    """One run of ``congling train`` that ended, one that was stopped, and what is no run."""
    runs = tmp_path / "runs"
    for place, events in (("book/run", ["started", "finished"]), ("deep/er/poet", ["started", "resumed"])):
        path = synthetic.make_run(runs / place)
        (path / "config.toml").write_text("[train]\nmax_steps = 400\n", encoding="utf-8")
        rows = [{"event": event, "step": 1} for event in events]
        synthetic.rows_to(path / "events.jsonl", rows)
    (runs / "book" / "shards").mkdir()
    (runs / "book" / "shards" / "train.bin").write_bytes(bytes(1000))
    (runs / "notes.txt").write_text("no run", encoding="utf-8")
    return runs


def test_runs_are_named_and_measured(folder):
    book, poet = listed(folder)
    assert (book.name, poet.name) == ("book", str(Path("deep", "er", "poet")))
    assert (book.state, poet.state) == ("finished", "stopped")
    assert book.unit == "bits/char" and 5 < (book.loss or 0) < 8
    assert book.steps == 400 and (book.parameters or 0) > 0 and (book.seconds or 0) > 100
    assert book.bytes == size_of(folder / "book") > poet.bytes > 1000


def test_a_run_itself_is_a_folder_of_one(folder):
    (one,) = listed(folder / "deep" / "er" / "poet")
    assert (one.name, one.state) == ("poet", "stopped")


def lock(path, **said):
    content = {
        "pid": os.getpid(),
        "host": platform.node(),
        "since": "now",
        "command": "congling train",
    } | said
    path.write_bytes(b"\n" + json.dumps(content).encode() + b"\n")


@pytest.mark.parametrize("place", ["book/run", "book"])
def test_a_run_whose_lock_is_held_is_running(folder, place):
    lock(folder / place / ".lock")
    assert listed(folder)[0].state == "running"


@pytest.mark.parametrize("said", [{"pid": 2**22 + 7}, {"pid": -1}, {"pid": "x"}, {"host": "elsewhere"}])
def test_a_lock_that_nobody_here_holds_means_nothing(folder, said):
    lock(folder / "book" / "run" / ".lock", **said)
    assert listed(folder)[0].state == "finished"


@pytest.mark.parametrize("content", [b"", b"[]", b"\0" * 10_000, b"[" * 5000])
def test_any_lock_can_be_read(folder, content):
    (folder / "book" / "run" / ".lock").write_bytes(content)
    assert listed(folder)[0].state == "finished"


def test_a_damaged_run_is_listed_and_hides_no_other(folder):
    (folder / "book" / "run" / "checkpoints").mkdir()
    (folder / "book" / "run" / "metrics.jsonl").unlink()
    book, poet = listed(folder)
    assert book.state == "damaged" and "metrics.jsonl" in (book.problem or "") and book.bytes > 0
    assert poet.state == "stopped"


def test_a_run_without_metrics_yet_is_listed(folder):
    fresh = folder / "fresh"
    (fresh / "checkpoints").mkdir(parents=True)
    (fresh / "config.toml").write_text("[train]\nmax_steps = 4\n", encoding="utf-8")
    one = next(one for one in listed(folder) if one.name == "fresh")
    assert one.state == "damaged" and one.problem and one.loss is None


def test_links_and_checkpoints_are_not_looked_into(folder, tmp_path):
    elsewhere = synthetic.make_run(tmp_path / "elsewhere")
    (elsewhere / "config.toml").write_text("[train]\nmax_steps = 4\n", encoding="utf-8")
    (folder / "link").symlink_to(elsewhere, target_is_directory=True)
    shutil.copytree(elsewhere, folder / "book" / "run" / "checkpoints" / "step-00000001")
    assert len(list(run_directories(folder))) == 2
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    assert len(listed(folder)) == 2


def test_there_must_be_a_folder(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        listed(tmp_path / "absent")
    assert listed(tmp_path) == []
