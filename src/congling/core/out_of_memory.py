"""Out of memory, however a library says it: recognised by its words, and told with numbers; no torch.

::

    MemoryError               Python, numpy, pyarrow, std::bad_alloc
    RuntimeError              "DefaultCPUAllocator: can't allocate memory: you tried to allocate 512 bytes"
    torch.OutOfMemoryError    "CUDA out of memory. Tried to allocate 2.00 GiB …"
    OSError                   ENOMEM, of files that are mapped
"""

import errno
import re
from dataclasses import dataclass

from congling.core import machine
from congling.core.errors import UserError
from congling.core.units import show_bytes

_WORDS = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|not enough memory|std::bad_alloc|"
    r"(CUBLAS|CUDNN)_STATUS_ALLOC_FAILED|cudaErrorMemoryAllocation|unable to allocate|unable to mmap",
    re.IGNORECASE,
)
_BYTES = re.compile(r"allocate ([\d.]+) ?(bytes|[KMGT]iB|[KMGT]B)?", re.IGNORECASE)
_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


@dataclass(frozen=True)
class Shortage:
    """What was asked for when memory ran out, and what there was; bytes."""

    tried: int | None
    """The piece that was not to be had; None where nobody says."""
    held: int
    """What the process held of the memory that ran out."""
    room: int
    """All that it may have."""
    place: str
    """What ran out, in words: ``this machine``, ``the GPU`` or ``the limit of this process``."""

    @property
    def needed(self) -> int:
        """What would have been held with that piece; at least."""
        return self.held + (self.tried or 0)

    def __str__(self) -> str:
        asked = "" if self.tried is None else f"{show_bytes(self.tried)} more were needed; "
        return (
            f"{asked}{show_bytes(self.held)} are held, and {self.place} has {show_bytes(self.room)} for this "
            "process"
        )


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, says that memory ran out."""
    while error is not None:
        if isinstance(error, MemoryError) or type(error).__name__ in ("OutOfMemoryError", "ArrowMemoryError"):
            return True
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return True
        if isinstance(error, RuntimeError) and _WORDS.search(str(error)):
            return True
        error = error.__cause__
    return False


def tried(text: str) -> int | None:
    """Bytes of the piece that could not be had, from what a library says of it."""
    found = _BYTES.search(text)
    if found is None:
        return None
    unit = (found[2] or "bytes").lower()
    return int(float(found[1]) * _UNITS["" if unit == "bytes" else unit[0]])


def shortage(error: BaseException) -> Shortage:
    """Numbers of the main memory that ran out with ``error``."""
    limit = machine.address_space_limit()
    if limit is not None:
        return Shortage(
            tried(str(error)), machine.address_space_used(), limit, "the limit of this process (ulimit -v)"
        )
    held = machine.memory_used()
    room = min(machine.memory_bytes(), held + machine.available_bytes())
    return Shortage(tried(str(error)), held, room, "this machine")


def explained(error: BaseException, hint: str | None = None) -> UserError:
    """The error for a person, where nothing is known of what the memory was for."""
    hint = (
        hint or "close other programs, or take less at a time: smaller files, a shorter context, fewer rows"
    )
    return UserError(f"out of memory: {shortage(error)}", hint=hint)
