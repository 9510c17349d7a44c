"""Outputs appear whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from congling.core.errors import UserError
from congling.core.output import refuse_inputs, replacing


def _write(target: Path, directory: bool, text: str) -> None:
    if directory:
        (target / "inner").mkdir(parents=True)
        (target / "inner" / "a.txt").write_text(text)
    else:
        target.write_text(text)


@pytest.mark.parametrize("directory", [True, False])
def test_appears_only_when_the_block_ends(tmp_path: Path, directory: bool) -> None:
    target = tmp_path / "a" / "b" / "out"
    with replacing(target) as temporary:
        assert not temporary.exists()
        _write(temporary, directory, "new")
        assert not target.exists()
    assert ((target / "inner" / "a.txt") if directory else target).read_text() == "new"
    assert [file.name for file in target.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("directory", [True, False])
def test_a_failure_leaves_nothing_behind(tmp_path: Path, directory: bool) -> None:
    with pytest.raises(RuntimeError), replacing(tmp_path / "a" / "b" / "out") as temporary:
        _write(temporary, directory, "half")
        raise RuntimeError("the disk is full")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_keeps_the_old_output(tmp_path: Path) -> None:
    _write(tmp_path / "out", True, "old")
    with pytest.raises(RuntimeError), replacing(tmp_path / "out", overwrite=True) as temporary:
        _write(temporary, True, "half")
        raise RuntimeError("the disk is full")
    assert (tmp_path / "out" / "inner" / "a.txt").read_text() == "old"


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("after", [True, False])
def test_overwrite_replaces_a_file_or_a_directory(tmp_path: Path, before: bool, after: bool) -> None:
    _write(tmp_path / "out", before, "old")
    with pytest.raises(UserError, match="exists already"), replacing(tmp_path / "out"):
        pass
    with replacing(tmp_path / "out", overwrite=True) as temporary:
        _write(temporary, after, "new")
    assert ((tmp_path / "out" / "inner" / "a.txt") if after else tmp_path / "out").read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_an_empty_directory_is_free(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with replacing(tmp_path / "out") as temporary:
        _write(temporary, False, "new")
    assert (tmp_path / "out").read_text() == "new"


@pytest.mark.parametrize("name", ["n" * 250, "n" * 300, "..", "/"])
def test_names_that_cannot_be_written_are_one_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "kept").mkdir()
    with pytest.raises(UserError), replacing(tmp_path / "kept" / name, overwrite=True) as temporary:
        temporary.write_text("new")
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]


def test_a_full_disk_is_one_error_and_a_missing_input_is_not_the_outputs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No space left"), replacing(tmp_path / "out"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "out"):
        (tmp_path / "input").read_text()
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_of_the_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(UserError, match="cannot be written"), replacing(tmp_path / "a" / "out"):
        pass


@pytest.mark.parametrize(
    ("path", "refused"),
    [("a", True), ("a/b", True), ("a/b/../b", True), ("a/b/model", False), ("a/c", False), ("ab", False)],
)
def test_an_output_may_not_remove_what_it_is_made_from(tmp_path: Path, path: str, refused: bool) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    if refused:
        with pytest.raises(UserError, match="made from"):
            refuse_inputs(tmp_path / path, None, tmp_path / "other", tmp_path / "a" / "b")
    else:
        refuse_inputs(tmp_path / path, None, tmp_path / "other", tmp_path / "a" / "b")


def test_an_output_that_cannot_take_its_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path / "out", True, "old")

    def fail(self: Path, target: Path) -> Path:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "replace", fail)
    with (
        pytest.raises(UserError, match="cannot be written"),
        replacing(tmp_path / "out", overwrite=True) as new,
    ):
        _write(new, True, "new")
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "inner" / "a.txt").read_text() == "old"
