"""What the system refuses is one error, in whichever form it comes."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError

from congling.core.disk import Patience, Refused, reading_from, refusal, unwritable, writing_to

RUST = "Error while serializing: I/O error: No space left on device (os error 28)"


def of(number: int, *names: str) -> OSError:
    return OSError(number, os.strerror(number), *names)


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (of(errno.ENOSPC), errno.ENOSPC),
        (of(errno.EDQUOT), errno.EDQUOT),
        (of(errno.EFBIG), errno.EFBIG),
        (of(errno.EIO), errno.EIO),
        (of(errno.EROFS), errno.EROFS),
        (SafetensorError(RUST), errno.ENOSPC),
        (SafetensorError("I/O error: File too large (os error 27)"), errno.EFBIG),
        (shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")]), errno.ENOSPC),
        (OSError("1000 requested and 12 written"), errno.ENOSPC),  # numpy's
    ],
)
def test_every_form_is_told_with_its_cause_and_a_remedy(
    tmp_path: Path, error: Exception, number: int
) -> None:
    with pytest.raises(Refused, match="cannot be written") as found, writing_to(tmp_path / "out"):
        raise error
    assert found.value.number == number and found.value.hint and found.value.value == str(tmp_path / "out")
    assert found.value.passes == (number in (errno.ENOSPC, errno.EDQUOT, errno.EIO))
    assert (" free" in str(found.value)) == (number in (errno.ENOSPC, errno.EDQUOT))


def test_names_below_the_output_are_its_own_and_others_are_not(tmp_path: Path) -> None:
    for name in (tmp_path / "out", tmp_path / "out" / "a" / "b", tmp_path / "temporary" / "c"):
        with pytest.raises(Refused), writing_to(tmp_path / "out", tmp_path / "temporary"):
            raise of(errno.EACCES, str(name))
    for name in (tmp_path / "input", tmp_path / "outer"):
        with pytest.raises(FileNotFoundError), writing_to(tmp_path / "out"):
            raise of(errno.ENOENT, str(name))
    with pytest.raises(SafetensorError), writing_to(tmp_path / "out"):
        raise SafetensorError("HeaderTooLarge")  # of a file that was read


def test_numpy_on_a_full_disk(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with (
        pytest.raises(Refused, match="No space left"),
        writing_to(tmp_path / "out"),
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        np.save(full, np.zeros(100_000))


def test_reading_is_told_as_reading(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"cannot be read \(Permission denied\)"), reading_from(tmp_path):
        raise of(errno.EACCES, str(tmp_path / "a"))


def test_what_reaches_the_top_has_a_sentence(tmp_path: Path) -> None:
    assert "what is printed" in str(refusal(of(errno.ENOSPC)))
    assert str(tmp_path) in str(refusal(of(errno.EROFS, str(tmp_path))))
    assert "Too many open files" in str(refusal(of(errno.EMFILE, str(tmp_path))))
    assert "a → b" in str(refusal(OSError(errno.EXDEV, "Invalid cross-device link", "a", None, "b")))


class Disk:
    """Refuses so many times, then takes it."""

    def __init__(self, times: int, number: int = errno.ENOSPC) -> None:
        self.times, self.number, self.calls = times, number, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.times:
            raise unwritable("run/metrics.jsonl", of(self.number))
        return "written"


def patience(said: list[str], **changes: object) -> Patience:
    return Patience(**{"seconds": 30, "say": said.append, "pause": 0.0, **changes})  # type: ignore[arg-type]


def test_with_space_again_the_work_goes_on_and_both_are_said() -> None:
    said: list[str] = []
    disk = Disk(3)
    assert patience(said)(disk) == "written" and disk.calls == 4
    assert len(said) == 2 and "paused: cannot be written" in said[0] and "going on" in said[1]
    assert patience(said)(Disk(0)) == "written" and len(said) == 2


def test_what_time_cannot_mend_is_not_waited_for() -> None:
    for number in (errno.EFBIG, errno.EROFS, errno.EACCES):
        disk = Disk(1, number)
        with pytest.raises(Refused, match="run it again"):
            patience([], advice="run it again")(disk)
        assert disk.calls == 1


def test_waiting_ends_when_the_time_is_up_or_someone_asks_to_stop() -> None:
    disk = Disk(10**9)
    with pytest.raises(Refused, match="free some space"):
        patience([], seconds=0)(disk)
    assert disk.calls == 1
    tired = patience([], seconds=0)
    for _ in range(2):  # what is written on the way out finds no patience left
        with pytest.raises(Refused):
            tired(Disk(10**9))
        tired.seconds = 30
    stopped = iter([False, False, True, True])
    with pytest.raises(Refused):
        patience([], stopped=lambda: next(stopped))(Disk(10**9))
