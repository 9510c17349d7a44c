"""What is no ordinary file is refused before anything waits for it."""

import os
import socket
from pathlib import Path

import pytest

from congling.core import files
from congling.core.config import read_toml
from congling.core.errors import UserError


@pytest.fixture
def odd(tmp_path: Path) -> dict[str, Path]:
    """Files of every kind that is none."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "to pipe").symlink_to(tmp_path / "pipe")
    os.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
    names = ("pipe", "folder", "loop", "to pipe", "socket", "absent", "x" * 5000, "a\0b")
    return {name: tmp_path / name for name in names} | {"zero": Path("/dev/zero"), "null": Path("/dev/null")}


@pytest.mark.parametrize(
    "name", ["pipe", "folder", "loop", "to pipe", "socket", "absent", "x" * 5000, "a\0b", "zero", "null"]
)
def test_no_ordinary_file_is_an_error_at_once(
    odd: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OSError) as refused:
        files.opened(odd[name])
    assert refused.value.strerror
    with pytest.raises(UserError, match="cannot read the recipe"):
        read_toml(odd[name])


def test_small_files_are_small(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("云".encode())
    assert (files.content(tmp_path / "a"), files.text(tmp_path / "a")) == ("云".encode(), "云")
    with pytest.raises(OSError, match="larger than 2 bytes"):
        files.content(tmp_path / "a", 2)


def test_what_cannot_be_a_name_is_not_there() -> None:
    assert not any(map(files.exists, ("x" * 5000, "a\0b", "\ud83d")))


@pytest.mark.parametrize("codec", ["gbk", "big5hkscs"])
def test_names_in_other_encodings_are_found(tmp_path: Path, codec: str) -> None:
    folder = tmp_path / os.fsdecode("語料".encode(codec))
    folder.mkdir()
    (folder / os.fsdecode("一回.txt".encode(codec))).write_text("a")
    assert files.located(tmp_path / "語料" / "一回.txt").read_text() == "a"
    assert files.located(tmp_path / "没有.txt") == tmp_path / "没有.txt"
