"""A disk that is full, breaks or may not be written to: one error, nothing half written, and a way on."""

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors import SafetensorError

from congling.core import artifact, json_lines, output
from congling.core.disk import Refused
from congling.core.errors import UserError
from congling.core.rundir import RunDirectory
from congling.train.runs import checkpoints
from congling.train.runs.train import RunParts, train
from support.training_doubles import settings, trainer

STEPS = 6


def trained(out: Path, **changes: object) -> RunDirectory:
    """A run of a few steps with a checkpoint every second, begun or gone on with."""
    config = settings(**{"max_steps": STEPS, "save_steps": 2, "eval_steps": 2, **changes})
    one = trainer(config)
    losses = {2: 3.0, 4: 2.0, 6: 2.5}
    parts = RunParts(config.replace(wait_for_space=0.0), evaluate=lambda model: {"loss": losses[one.step]})
    return train(one, out, parts)


def contents(run: Path) -> dict[str, bytes]:
    """What must be the same whatever the disk did on the way."""
    files = [run / "metrics.jsonl", run / "BEST", run / "LATEST"]
    for checkpoint in sorted(run.glob("checkpoints/step-*")):
        found = artifact.opened(checkpoint, "checkpoint", verify=True)
        files += [checkpoint / name for name in found.files]
    return {file.relative_to(run).as_posix(): file.read_bytes() for file in files}


class Disk:
    """Counts what is asked of the disk, and refuses one request, or all from it on."""

    def __init__(self, number: int, at: int, times: int) -> None:
        self.number, self.at, self.times, self.asked = number, at, times, 0

    def ask(self, safetensors: bool = False) -> None:
        self.asked += 1
        if self.at <= self.asked < self.at + self.times:
            text = os.strerror(self.number)
            if safetensors:
                raise SafetensorError(f"Error while serializing: I/O error: {text} (os error {self.number})")
            raise OSError(self.number, text)


@contextlib.contextmanager
def refusing(number: int, *, at: int, times: int = 10**9) -> Iterator[Disk]:
    """Every way in which a run writes, in front of a disk that refuses."""
    disk = Disk(number, at, times)

    def asked(function: Callable, **how: bool) -> Callable:
        def wrapper(*given: object, **named: object) -> object:
            disk.ask(**how)
            return function(*given, **named)

        return wrapper

    opened = json_lines._opened
    with pytest.MonkeyPatch.context() as patch:
        for place, name in ((Path, "write_bytes"), (Path, "mkdir"), (Path, "rename"), (Path, "replace")):
            patch.setattr(place, name, asked(getattr(place, name)))
        patch.setattr(os, "fsync", asked(os.fsync))
        patch.setattr(shutil, "copyfile", asked(shutil.copyfile))
        patch.setattr(checkpoints, "save_file", asked(checkpoints.save_file, safetensors=True))
        patch.setattr(json_lines, "_opened", asked(opened))
        yield disk


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("whole") / "run").path


def requests(folder: Path) -> int:
    with refusing(errno.ENOSPC, at=10**9) as disk:
        trained(folder)
    return disk.asked


NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


def test_whatever_request_fails_it_is_one_error_and_the_same_command_goes_on(
    whole: Path, tmp_path: Path
) -> None:
    total = requests(tmp_path / "counted")
    assert total > 60
    for at in range(1, total + 1, 5):
        out = tmp_path / f"at-{at}"
        with refusing(NUMBERS[at % len(NUMBERS)], at=at), contextlib.suppress(UserError):
            trained(out, wait_for_space=0)  # nothing but an error for people, or an end in spite of it
        trained(out, wait_for_space=0)
        assert contents(out) == contents(whole), f"request {at} of {total}"
        hidden = [
            place.name for place in out.rglob(".*") if ".partial-" in place.name or ".old-" in place.name
        ]
        assert hidden == []


def test_with_space_again_a_waiting_run_goes_on_and_loses_nothing(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("congling.core.disk.Patience._wait", lambda self: None)
    total = requests(tmp_path / "counted")
    begun = 12  # the directory itself is made at once or not at all
    for at in range(begun, total, 11):
        with refusing(errno.ENOSPC, at=at, times=3):
            out = trained(tmp_path / f"at-{at}", wait_for_space=60).path
        assert contents(out) == contents(whole), f"request {at} of {total}"
    said = capsys.readouterr().err
    assert "paused: cannot be written (No space left on device" in said and "going on after" in said


def test_the_message_says_how_to_go_on(tmp_path: Path) -> None:
    with refusing(errno.ENOSPC, at=30), pytest.raises(Refused) as found:
        trained(tmp_path / "run", wait_for_space=0)
    text = str(found.value)
    assert "checkpoints" in text  # and not the log of how it ended, which could not be written either
    for part in (
        "No space left on device",
        " free)",
        str(tmp_path),
        "free some space",
        "run the same command",
    ):
        assert part in text


def test_the_disk_has_the_new_before_the_old_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power loss keeps what was synced: directories are, before anything in them is removed."""
    done: list[str] = []
    fsync, rmtree = os.fsync, shutil.rmtree

    def synced(descriptor: int) -> None:
        done.append("sync " + str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    def removed(path: Path, **options: bool) -> None:
        done.append(f"remove {path}")
        rmtree(path, **options)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("names of open files are not known here")
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(shutil, "rmtree", removed)
    run = trained(tmp_path / "run", save_total_limit=1, save_steps=1).path
    removals = [i for i, what in enumerate(done) if what.startswith("remove") and "step-" in what]
    assert removals, "the test looks at nothing"
    for i in removals:
        before = done[:i]
        newest = max(
            j for j, what in enumerate(before) if what.endswith("MANIFEST.json") or "MANIFEST" in what
        )
        assert f"sync {run / 'checkpoints'}" in before[newest:] and f"sync {run}" in before[newest:]
    with output.replacing(tmp_path / "out", overwrite=True) as new:
        new.mkdir()
    done.clear()
    with output.replacing(tmp_path / "out", overwrite=True) as new:
        new.mkdir()
        (new / "a").write_text("a")
    names = [what for what in done if what == f"sync {tmp_path}" or what.startswith("remove")]
    assert names[0] == f"sync {tmp_path}" and names[1].startswith("remove")


PROGRAM = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
size = int(sys.argv[1])
from test_full_disk import trained
if size:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
from congling.core.errors import UserError
try:
    trained(Path(sys.argv[2]), wait_for_space=0)
except UserError as error:
    sys.exit(f"congling: {error}")
"""


def in_a_process(size: int, out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(size), str(out), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )


@pytest.mark.parametrize("size", [100, 20_000, 120_000])
def test_a_limit_on_the_size_of_files(whole: Path, tmp_path: Path, size: int) -> None:
    ended = in_a_process(size, tmp_path / "run")
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert "File too large" in ended.stderr and "ulimit -f" in ended.stderr
    assert contents(trained(tmp_path / "run").path) == contents(whole)


@contextlib.contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """A file system of a few kilobytes, where this machine lets us make one."""
    place.mkdir()
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root makes file systems")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=False)
    if made.returncode:
        pytest.skip("no file systems can be made here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


@pytest.mark.parametrize("size", ["40k", "300k", "700k"])
def test_a_disk_that_is_really_full(whole: Path, tmp_path: Path, size: str) -> None:
    with small_disk(tmp_path / "disk", size) as disk:
        with pytest.raises(Refused, match="No space left"):
            trained(disk / "run", wait_for_space=0)
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        assert contents(trained(disk / "run").path) == contents(whole)


def test_a_disk_that_may_only_be_read(tmp_path: Path) -> None:
    from congling.report.writing import write_report
    from congling.stages import explain

    with small_disk(tmp_path / "disk", "50m") as disk:
        run = trained(disk / "run").path
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(UserError, match=r"Read-only(.|\n)*--out"):
            write_report(run)
        assert write_report(run, tmp_path / "report").is_file()
        explain.run(run)
        with pytest.raises(UserError, match="Read-only"):
            trained(disk / "other")
