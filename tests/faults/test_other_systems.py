"""Nothing but what was tried keeps other systems out: every module loads without what only Unix has."""

import subprocess
import sys

ABSENT = ("fcntl", "resource", "termios", "readline", "pwd", "grp", "syslog")
"""Of Python's library, on Unix alone."""
CALLS = {
    "signal": ("SIGHUP", "SIGKILL", "SIGALRM", "SIGUSR1", "SIGPIPE"),
    "os": (
        "fork", "sched_getaffinity", "getuid", "geteuid", "getpgid", "setsid", "uname", "register_at_fork",
        "O_NOFOLLOW", "O_DIRECTORY", "O_NONBLOCK", "O_CLOEXEC",
    ),
}  # fmt: skip
"""What Windows lacks of two modules that it has."""
PROGRAM = f"""
import importlib, pkgutil, sys
import numpy, psutil, rich.console, tokenizers, torch, typer  # they have ways of their own
for name in {ABSENT!r}:
    sys.modules[name] = None
for module, names in {CALLS!r}.items():
    for name in names:
        delattr(importlib.import_module(module), name)
import congling
failed = []
for found in pkgutil.walk_packages(congling.__path__, "congling."):
    if found.name == "congling.__main__":
        continue
    try:
        importlib.import_module(found.name)
    except Exception as error:
        failed.append(f"{{found.name}}: {{type(error).__name__}}: {{error}}")
from congling.core import machine
assert machine.cores() >= 1 and machine.peak_memory_bytes() > 10**6 and machine.memory_bytes() > 10**6
sys.exit("\\n".join(failed) or 0)
"""


def test_every_module_loads_without_what_only_unix_has() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
