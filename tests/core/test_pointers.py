"""Which checkpoint a run hands on when pointers are whole, lost, damaged, or contradict checkpoints."""

import json
from pathlib import Path

import pytest

from congling.core import artifact, pointers


def run_of(path: Path, *steps: int, best: int | None) -> Path:
    """A run whose newest checkpoint remembers ``best``."""
    for step in steps:
        with artifact.writing(path / f"checkpoints/step-{step:08d}", "checkpoint") as folder:
            (folder / "state").mkdir()
            state = {"step": step, "best": None if best is None else {"step": best, "loss": 2.0}}
            (folder / "state" / "state.json").write_text(json.dumps(state))
    (path / "LATEST").write_text(f"step-{steps[-1]:08d}\n")
    if best is not None:
        (path / "BEST").write_text(f"step-{best:08d}\n")
    return path


def handed_on(run: Path) -> tuple[str | None, list[str]]:
    said: list[str] = []
    found = pointers.handed_on(run, said.append)
    return (None if found is None else found.name), said


def test_whole_pointers_are_followed_without_a_word(tmp_path: Path) -> None:
    assert handed_on(run_of(tmp_path / "a", 2, 4, 6, best=4)) == ("step-00000004", [])
    assert handed_on(run_of(tmp_path / "b", 2, 4, best=None)) == ("step-00000004", [])
    assert handed_on(tmp_path / "none") == (None, [])


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"step-00000009\n",
        b"st\0p-00000004",
        b"\xff\xfe",
        b"../../../etc",
        b"/",
        b"step-00000002\n",
        None,
    ],
)
def test_a_best_that_is_lost_or_damaged_does_not_become_the_latest(
    tmp_path: Path, damage: bytes | None
) -> None:
    run = run_of(tmp_path / "run", 2, 4, 6, best=4)
    (run / "BEST").unlink() if damage is None else (run / "BEST").write_bytes(damage)
    name, said = handed_on(run)
    assert name == "step-00000004" and len(said) == 1 and "BEST" in said[0]


@pytest.mark.parametrize("damage", [b"", b"step-00000003\n", b"\xff", b"step-00000002\n", None])
def test_a_latest_that_is_lost_or_damaged_is_said(tmp_path: Path, damage: bytes | None) -> None:
    run = run_of(tmp_path / "run", 2, 4, best=None)
    (run / "LATEST").unlink() if damage is None else (run / "LATEST").write_bytes(damage)
    name, said = handed_on(run)
    assert len(said) == 1 and "LATEST" in said[0]
    assert name == ("step-00000002" if damage == b"step-00000002\n" else "step-00000004")


def test_a_best_of_a_run_that_remembers_none_is_said_where_it_is_gone(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", 2, 4, best=None)
    (run / "BEST").write_text("step-00000001\n")
    name, said = handed_on(run)
    assert name == "step-00000004" and len(said) == 1 and "the latest, step-00000004, is used" in said[0]


def test_a_damaged_memory_is_not_believed(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", 2, 4, best=4)
    state = run / "checkpoints/step-00000004/state/state.json"
    state.write_text(state.read_text().replace('"step": 4, "loss"', '"step": 2, "loss"'))
    assert handed_on(run) == ("step-00000004", [])  # that the checkpoint is damaged is said when it is loaded


@pytest.mark.parametrize("best", [{"step": 1e300}, {"step": "4"}, {}, 4, [4], {"step": -1}])
def test_a_memory_that_makes_no_sense_is_ignored(tmp_path: Path, best: object) -> None:
    run = run_of(tmp_path / "run", 2, best=2)
    with artifact.writing(run / "checkpoints/step-00000004", "checkpoint") as folder:
        (folder / "state").mkdir()
        (folder / "state" / "state.json").write_text(json.dumps({"best": best}))
    assert handed_on(run)[0] == "step-00000002"


def test_what_a_killed_process_left_is_tidied_up(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", 2, 4, best=4)
    best = run / "checkpoints/step-00000004"
    best.rename(best.with_name(".step-00000004.old-999999999"))
    (run / "checkpoints/.step-00000006.partial-999999999").mkdir()
    (run / ".LATEST.partial-999999999").write_text("step")
    name, said = handed_on(run)
    assert name == "step-00000004" and len(said) == 1 and "is back" in said[0]
    assert sorted(place.name for place in run.rglob(".*")) == []
