"""One process a directory: its holder is named, nothing foreign is written to, and nothing stays behind."""

import json
import os
import subprocess
import sys
import threading

import pytest

from congling.core.errors import UserError
from congling.core.lock import LOCK, only_writer

HOLD = """
import sys
from congling.core.lock import only_writer
with only_writer(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock until its input ends."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_the_second_learns_who_the_first_is_and_since_when(tmp_path, holder):
    expected = "another process is working in this directory"
    with pytest.raises(UserError, match=expected) as refused, only_writer(tmp_path / "run"):
        pytest.fail("both hold it")
    said = json.loads((tmp_path / "run" / LOCK).read_text())
    assert f"process {holder.pid}, since {said['since']}" in str(refused.value)
    assert "stop it, or choose another --out" in str(refused.value)


def test_a_killed_holder_leaves_a_lock_that_is_free(tmp_path, holder):
    holder.kill()
    holder.wait()
    assert (tmp_path / "run" / LOCK).is_file()
    with only_writer(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / LOCK).read_text())["pid"] == os.getpid()
    assert not (tmp_path / "run" / LOCK).exists()


def test_within_one_process_the_lock_is_taken_once(tmp_path):
    with only_writer(tmp_path), pytest.raises(UserError, match="another process"), only_writer(tmp_path):
        pass
    with only_writer(tmp_path), only_writer(tmp_path, once=True):
        assert (tmp_path / LOCK).exists()
    assert not (tmp_path / LOCK).exists()


def test_another_thread_is_another_worker(tmp_path):
    found = []

    def second():
        try:
            with only_writer(tmp_path, once=True):
                found.append("held")
        except UserError as error:
            found.append(str(error))

    with only_writer(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert len(found) == 1 and "another process" in found[0]


def test_directories_made_for_the_lock_alone_are_gone(tmp_path):
    with pytest.raises(ZeroDivisionError), only_writer(tmp_path / "a" / "b"):
        1 / 0  # noqa: B018
    assert not (tmp_path / "a").exists()
    with only_writer(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "file").write_text("kept")
    assert [file.name for file in (tmp_path / "a" / "b").iterdir()] == ["file"]


@pytest.mark.parametrize("kind", ["link", "dangling link", "hard link", "pipe", "folder"])
def test_a_lock_that_is_no_file_of_ours_is_neither_followed_nor_emptied(tmp_path, kind):
    place, other = tmp_path / "run", tmp_path / "other"
    place.mkdir()
    other.write_text("precious")
    match kind:
        case "link":
            (place / LOCK).symlink_to(other)
        case "dangling link":
            (place / LOCK).symlink_to(tmp_path / "absent")
        case "hard link":
            (place / LOCK).hardlink_to(other)
        case "pipe":
            os.mkfifo(place / LOCK)
        case "folder":
            (place / LOCK).mkdir()
    with pytest.raises(UserError, match="the lock of the directory"), only_writer(place):
        pytest.fail("taken")
    assert other.read_text() == "precious" and not (tmp_path / "absent").exists()
    assert os.path.lexists(place / LOCK)


def test_a_file_of_somebody_else_holds_the_lock_and_keeps_its_content(tmp_path):
    (tmp_path / LOCK).write_text("notes of mine\n")
    with only_writer(tmp_path), pytest.raises(UserError, match="another process"), only_writer(tmp_path):
        pass
    assert (tmp_path / LOCK).read_text() == "notes of mine\n"


def test_what_a_stranger_wrote_cannot_move_the_cursor(tmp_path):
    with only_writer(tmp_path):
        forged = {"pid": "\x1b[2J", "since": None, "command": "\n" * 500}
        (tmp_path / LOCK).write_text("\n" + json.dumps(forged))
        with pytest.raises(UserError) as refused, only_writer(tmp_path):
            pass
    assert "\x1b" not in str(refused.value) and len(str(refused.value).splitlines()) == 2


def test_a_file_in_the_place_of_the_directory_is_named(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="cannot be made"), only_writer(tmp_path / "run"):
        pass
