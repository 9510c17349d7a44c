"""What this machine has: processors, memory, free disk; and what this process used of it."""

import contextlib
import ctypes
import os
import platform
import shutil
import sys
import time
from pathlib import Path


def processes() -> int:
    """How many processes torchrun started to train together; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Whether this is the first of those processes, which speaks for all."""
    return os.environ.get("RANK", "0") == "0"


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_bf16_units() -> bool:
    """Whether this processor multiplies bf16 matrices in hardware (AMX), several times as fast as fp32.

    Elsewhere bf16 matrix multiplications are emulated, several times slower. Read from the system instead of
    timed, so that the answer is the same every time; ``False`` where the system does not tell.
    """
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False


def memory_bytes() -> int:
    """Memory this process may use: the machine's, or its control group's limit where that is lower."""
    import psutil

    total = psutil.virtual_memory().total
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            total = min(total, int(text))
    return total


def memory_used() -> int:
    """Resident memory of this process now."""
    import psutil

    return psutil.Process().memory_info().rss


def available_bytes() -> int:
    """Main memory that programs could still take without swapping."""
    import psutil

    return psutil.virtual_memory().available


def address_space_limit() -> int | None:
    """Bytes of address space this process may use (``ulimit -v``); None where there is no limit."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def address_space_used() -> int:
    """Bytes of address space this process uses."""
    import psutil

    return psutil.Process().memory_info().vms


def kills_for_memory() -> int | None:
    """How many processes the system has killed since it was started because memory ran out; None where it
    does not tell."""
    for name in KILLS:
        with contextlib.suppress(OSError, ValueError, StopIteration):
            lines = Path(name).read_text(encoding="ascii").splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    return None


KILLS = ("/proc/vmstat", "/sys/fs/cgroup/memory.events")
"""Where Linux counts the processes that it kills for lack of memory."""


def boot() -> str:
    """What tells this start of the system from others; empty where it does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def free_disk_bytes(path: Path | str) -> int:
    """Free space of the file system that holds ``path`` (or its nearest existing parent)."""
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far; where the system does not tell, that of now."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        now = psutil.Process().memory_info()
        return int(getattr(now, "peak_wset", now.rss))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def is_program() -> bool:
    """Whether this process is the ``congling`` program, and not another that uses it as a library."""
    main = sys.modules.get("__main__")
    spec, file = getattr(main, "__spec__", None), Path(getattr(main, "__file__", None) or ".")
    if spec is not None and spec.name == "congling.__main__":  # python -m congling
        return True
    return file.stem == "congling" or (file.name == "__main__.py" and file.parent.stem == "congling")


def command_started() -> float:
    """``time.monotonic()`` of the moment a command began: the start of the program, Python's own included.

    Now, where another program calls the command, or where the system does not tell.
    """
    if not is_program():
        return time.monotonic()
    import psutil

    try:
        age = time.time() - psutil.Process().create_time()
    except psutil.Error:
        age = 0.0
    used = time.process_time()  # a process is no younger than the work of one of its processors
    return time.monotonic() - min(max(age, used / cores()), _LONGEST_AGE)


_LONGEST_AGE = 7 * 86400.0
"""Of a process that was started to train; a clock that was set in between may say more."""


def description() -> str:
    """One line for reports: system, processors, memory."""
    memory = f"{memory_bytes() / 2**30:.0f} GiB"
    system = f"{platform.system()} {platform.machine()}"
    return f"{system}, {cores()} cores, {memory}, Python {platform.python_version()}"


def return_freed_memory() -> None:
    """Let large pieces of freed memory go back to the system at once, for the rest of the process.

    glibc learns from the first large piece freed to keep those that follow, and training's tensors of many
    sizes leave holes between them: 309 MB instead of 202 for a LoRA on a file of 116 MB. Memory that comes
    and goes takes time, there about a quarter of the speed. Other systems' allocators are left as they are.
    """
    trim, threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(threshold, 1 << 17)
        library.mallopt(trim, 1 << 17)


def trim_memory() -> None:
    """Give what is freed by now back to the system, once; only glibc's allocator has to be asked."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
