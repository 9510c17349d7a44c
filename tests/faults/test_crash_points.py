"""A process may end at any operation on a file: the same command comes to the same end, pointers included.

All operations, and 200 kills, are tried by ``benchmarks/reliability/interrupted.py``; here some of them are.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("crash_points.py")
pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux")


def tried(root, *arguments):
    command = [sys.executable, str(PROGRAM), str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["different"] == [], done.stderr
    return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return tried(
        tmp_path_factory.mktemp("crash"), "--every", "37", "--twice", "2", "--kills", "4", "--seed", "4"
    )


def test_a_run_ended_anywhere_is_finished_by_the_same_command(plain):
    assert plain["operations"] > 80 and plain["tried"] > 10 and plain["kills"] == 4


def test_a_run_ended_while_it_is_made_longer_is_finished_by_the_same_command(tmp_path):
    found = tried(tmp_path, "--longer", "--every", "29", "--twice", "1")
    assert found["tried"] > 6


def test_nothing_old_is_removed_before_what_replaces_it_is_on_the_disk(plain):
    pending, removed = set(), 0
    for name, path in plain["trace"]:
        if name == "os.rename" and path in ("LATEST", "BEST", "BEFORE_DECAY"):
            pending.add(".")
        elif name == "os.rename" and path.startswith("checkpoints/step-"):
            pending.add("checkpoints")
        elif name == "fsync":
            pending.discard(path)
        elif name == "os.rename" and ".gone-" in path:
            assert not pending, f"{path} is removed before names in {pending} are on the disk"
            removed += 1
    assert removed
