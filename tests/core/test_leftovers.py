"""What killed processes leave is tidied up, and what others are writing is left alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from congling.core import leftovers
from congling.core.output import replacing

DEAD = 999_999_999


def made(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "file").write_text(path.name)
    return path


def names(folder: Path) -> list[str]:
    return sorted(place.name for place in folder.iterdir())


@pytest.mark.parametrize("suffix", ["", f"-{leftovers._machine()}"])
def test_leftovers_of_the_dead_are_removed_or_brought_back(tmp_path: Path, suffix: str) -> None:
    made(tmp_path / f".a.partial-{DEAD}{suffix}")
    made(tmp_path / f".b.old-{DEAD}{suffix}")
    made(tmp_path / "c")
    made(tmp_path / f".c.old-{DEAD}{suffix}")
    made(tmp_path / f".step-00000010.gone-{DEAD}{suffix}")
    (tmp_path / f".LATEST.partial-{DEAD}{suffix}").write_text("st")
    told = leftovers.sweep(tmp_path)
    assert names(tmp_path) == ["b", "c"] and (tmp_path / "c" / "file").read_text() == "c"
    assert len(told) == 1 and "b is back" in told[0]


def test_what_a_living_process_writes_is_left_to_it(tmp_path: Path) -> None:
    mine = made(leftovers.beside(tmp_path / "a", "partial"))
    parents = made(tmp_path / f".b.old-{os.getppid()}")
    elsewhere = made(tmp_path / f".c.partial-{DEAD}-00000000")
    assert leftovers.sweep(tmp_path) == []
    assert names(tmp_path) == sorted(place.name for place in (mine, parents, elsewhere))
    os.utime(elsewhere, (0, 0))  # written on another machine, long ago
    leftovers.sweep(tmp_path)
    assert not elsewhere.exists() and mine.exists()


def test_a_number_that_was_given_to_a_later_process_is_no_sign_of_life(tmp_path: Path) -> None:
    old = made(leftovers.beside(tmp_path / "a", "partial"))
    os.utime(old, (1, 1))  # long before this process began
    leftovers.sweep(tmp_path)
    assert names(tmp_path) == []


def test_other_names_are_none_of_ours(tmp_path: Path) -> None:
    others = [".a.partial", ".partial-7", "a.partial-7", ".a.partial-x", ".a.older-7", ".a.partial-7-zz", "b"]
    for name in others:
        (tmp_path / name).write_text("")
    assert leftovers.sweep(tmp_path) == [] and names(tmp_path) == sorted(others)
    assert leftovers.sweep(tmp_path / "none") == []


def test_the_next_writer_of_the_same_output_sweeps(tmp_path: Path) -> None:
    made(tmp_path / f".a.partial-{DEAD}")
    made(tmp_path / f".b.partial-{DEAD}")
    with replacing(tmp_path / "a") as new:
        made(new)
    assert names(tmp_path) == [f".b.partial-{DEAD}", "a"]


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from congling.core import leftovers, output
when, out = sys.argv[1], Path(sys.argv[2])
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
if when == "writing":
    pass
elif when == "between the renames":
    Path.replace = die
else:
    shutil.rmtree = die
with output.replacing(out, overwrite=True) as new:
    new.mkdir()
    (new / "file").write_text("new")
    if when == "writing":
        die()
"""


@pytest.mark.parametrize(
    ("when", "left"), [("writing", "old"), ("between the renames", "old"), ("removing", "new")]
)
def test_a_kill_at_any_point_of_a_replacement_leaves_one_whole(tmp_path: Path, when: str, left: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("old")
    subprocess.run([sys.executable, "-c", KILLED, when, str(tmp_path / "out")], check=False, env=os.environ)
    assert len(names(tmp_path)) >= 2 or when == "between the renames"
    leftovers.sweep(tmp_path)
    assert names(tmp_path) == ["out"] and (tmp_path / "out" / "file").read_text() == left


def test_what_is_being_removed_has_no_name_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "step-00000010")
    monkeypatch.setattr(leftovers.shutil, "rmtree", lambda *_, **__: None)
    leftovers.remove(tmp_path / "step-00000010")
    assert [name.split("-")[1] for name in names(tmp_path)] == ["00000010.gone"]
