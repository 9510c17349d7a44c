"""Out of memory is recognised however a library words it, and told with numbers."""

import errno
import subprocess
import sys

import pytest

from congling.core.errors import UserError
from congling.core.out_of_memory import Shortage, explained, is_out_of_memory, tried


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(), RuntimeError("std::bad_alloc"), OutOfMemoryError("anything"),
        OSError(errno.ENOMEM, "no"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 12 bytes."),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 12 bytes."),
        RuntimeError("CUDA error: out of memory"), RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling"),
        RuntimeError("unable to mmap 12 bytes from file <x>: Cannot allocate memory (12)"),
    ],
)  # fmt: skip
def test_every_form_is_recognised(error):
    assert is_out_of_memory(error)
    wrapped = UserError("reading failed")
    wrapped.__cause__ = error
    assert is_out_of_memory(wrapped)


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes"), OSError(errno.ENOSPC, "full"), ValueError("memory"), None]
)
def test_other_errors_are_not(error):
    assert not is_out_of_memory(error)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("you tried to allocate 8589934592 bytes. Error", 8589934592),
        ("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0", 2 * 2**30),
        ("Unable to allocate 512. KiB for an array", 512 * 2**10),
        ("Tried to allocate 20.00 MiB (GPU", 20 * 2**20),
        ("std::bad_alloc", None),
    ],
)
def test_the_piece_that_could_not_be_had_is_read(text, size):
    assert tried(text) == size


def test_the_message_holds_the_numbers():
    text = str(Shortage(2 * 2**30, 3 * 2**30, 4 * 2**30, "this machine"))
    assert all(number in text for number in ("2.", "3.", "4.")) and "this machine" in text
    assert "out of memory" in str(explained(MemoryError()))


LIMITED = """
import resource, sys
import congling.cli as cli
from congling.data import corpus
soft = resource.getrlimit(resource.RLIMIT_AS)[1]

def read(*arguments, **options):
    import psutil
    now = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (now + 2**28, soft))
    return bytes(2**31)

corpus.make = read
sys.argv = ["congling", "data", "make", "book.txt"]
cli.main()
"""


def test_a_limit_of_the_process_ends_a_command_with_one_message(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("congling: out of memory:") and "ulimit -v" in done.stderr
