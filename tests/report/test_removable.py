"""What nothing needs is found and removed; what something needs, or is the only copy of it, stays."""

import json
import os
import platform
import subprocess
import sys
import time

import pytest

from congling.core import artifact
from congling.core.errors import UserError
from congling.report import removable as module
from congling.report.removable import removable, remove


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Temporary files of this test alone."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(folder))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    return folder


@pytest.fixture
def dead():
    """Number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def checkpoint(run, step):
    with artifact.writing(
        run / "checkpoints" / f"step-{step:08d}", "checkpoint", facts={"step": step}
    ) as folder:
        (folder / "model.safetensors").write_bytes(bytes(100))


@pytest.fixture
def runs(tmp_path):
    """A run with five checkpoints, three of them pointed at."""
    run = tmp_path / "runs" / "book"
    for step in range(1, 6):
        checkpoint(run, step)
    (run / "config.toml").write_text("[train]\nmax_steps = 5\n", encoding="utf-8")
    for name, step in (("BEST", 2), ("LATEST", 5), ("STABLE", 3)):
        (run / name).write_text(f"step-{step:08d}\n", encoding="utf-8")
    (run / "events.jsonl").write_text('{"event": "finished", "step": 5}\n', encoding="utf-8")
    return run.parent


def names(found):
    return sorted(one.path.name for one in found)


def test_checkpoints_that_nothing_points_at(runs):
    found = removable(runs)
    assert names(found) == ["step-00000001", "step-00000004"]
    assert all(one.kind == "checkpoint" and one.bytes > 100 for one in found)
    assert "BEST, LATEST, STABLE" in found[0].why
    assert remove(found) == []
    left = sorted(path.name for path in (runs / "book" / "checkpoints").iterdir())
    assert left == ["step-00000002", "step-00000003", "step-00000005"]
    assert removable(runs) == []


def test_a_run_that_has_not_ended_keeps_one_to_fall_back_on(runs):
    (runs / "book" / "events.jsonl").write_text('{"event": "started", "step": 0}\n', encoding="utf-8")
    assert names(removable(runs)) == ["step-00000001"]


def test_a_run_that_began_in_the_meantime_is_left_alone(runs):
    found = removable(runs)
    program = f"""
import sys
from congling.core.lock import only_writer
with only_writer({str(runs / "book")!r}):
    print("mine", flush=True)
    sys.stdin.readline()
"""
    other = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None and other.stdout.readline() == "mine\n"
    assert sorted(remove(found)) == [one.path for one in sorted(found, key=lambda one: one.path)]
    other.communicate("\n")
    assert remove(found) == []


def test_looking_changes_nothing(runs, dead):
    (runs / f".out.partial-{dead}").write_bytes(b"half")
    before = sorted(runs.rglob("*"))
    removable(runs)
    assert sorted(runs.rglob("*")) == before


def test_a_run_that_is_training_is_left_alone(runs):
    content = {"pid": os.getpid(), "host": platform.node()}
    (runs / "book" / ".lock").write_bytes(b"\n" + json.dumps(content).encode())
    assert removable(runs) == []


def test_without_pointers_every_checkpoint_stays(runs):
    for name in ("BEST", "LATEST", "STABLE"):
        (runs / "book" / name).unlink()
    assert removable(runs) == []


def test_a_pointer_to_nothing_keeps_nothing_and_harms_nothing(runs):
    (runs / "book" / "STABLE").write_text("../../etc\n", encoding="utf-8")
    assert names(removable(runs)) == ["step-00000001", "step-00000003", "step-00000004"]


@pytest.mark.parametrize("machine", ["", "-0a1b2c3d"])
def test_leftovers_of_processes_that_have_ended(runs, dead, machine):
    (runs / f".book.gguf.partial-{dead}{machine}").write_bytes(b"half")
    gone = runs / "book" / "checkpoints" / f".step-00000009.gone-{dead}{machine}"
    gone.mkdir()
    (gone / "model.safetensors").write_bytes(bytes(50))
    old = time.time() - 100_000
    for path in (runs / f".book.gguf.partial-{dead}{machine}", gone):
        os.utime(path, (old, old))
    found = [one for one in removable(runs) if one.kind == "leftover"]
    assert names(found) == [f".book.gguf.partial-{dead}{machine}", f".step-00000009.gone-{dead}{machine}"]
    assert {one.bytes for one in found} == {4, 50}
    assert remove(found) == [] and not gone.exists()


def test_leftovers_of_processes_that_live_stay(runs):
    (runs / f".book.gguf.partial-{os.getpid()}").write_bytes(b"half")
    assert [one for one in removable(runs) if one.kind == "leftover"] == []


def test_the_only_copy_stays(runs, dead):
    aside = runs / f".tokenizer.old-{dead}"
    aside.mkdir()
    assert [one for one in removable(runs) if one.kind == "leftover"] == []
    (runs / "tokenizer").mkdir()
    assert names(one for one in removable(runs) if one.kind == "leftover") == [aside.name]


def test_damaged_checkpoints_that_were_set_aside(runs):
    (runs / "book" / "checkpoints" / "step-00000002").rename(
        runs / "book" / "checkpoints" / "step-00000002.damaged"
    )
    assert "step-00000002.damaged" in names(removable(runs))


def test_links_are_not_followed(runs, tmp_path, dead):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / f".precious.partial-{dead}").write_bytes(b"x")
    (runs / "link").symlink_to(outside, target_is_directory=True)
    (runs / f".linked.partial-{dead}").symlink_to(outside, target_is_directory=True)
    found = [one for one in removable(runs) if one.kind == "leftover"]
    assert names(found) == [f".linked.partial-{dead}"]
    assert remove(found) == []
    assert [path.name for path in outside.iterdir()] == [f".precious.partial-{dead}"]


def test_old_temporary_folders_alone(runs, temporary):
    for name, age in (("congling-old", 100_000), ("congling-new", 10), ("other-old", 100_000)):
        (temporary / name).mkdir()
        os.utime(temporary / name, (time.time() - age, time.time() - age))
    assert names(one for one in removable(runs) if one.kind == "temporary") == ["congling-old"]


def test_caches_of_others_only_where_they_are_asked_for(runs, tmp_path, monkeypatch):
    cache = tmp_path / "compiled"
    cache.mkdir()
    (cache / "kernel.so").write_bytes(bytes(10))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(cache))
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "absent"))
    assert "cache" not in {one.kind for one in removable(runs)}
    (found,) = [one for one in removable(runs, caches=True) if one.kind == "cache"]
    assert (found.path, found.bytes) == (cache, 10)


def test_there_must_be_a_folder(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        removable(tmp_path / "absent")
